"""One epoch: train on every batch once, then evaluate on val."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from pipeline.console import progress
from pipeline.dataset.verify import check_unreadable
from pipeline.errors import ModelError
from pipeline.labels import LabelSpace, long_tail
from pipeline.macro import counts, macro, rates
from pipeline.models.deployable import Deployable
from pipeline.sections.training import Training
from pipeline.training import distributed
from pipeline.training.average import Average
from pipeline.training.batched import Step, varied
from pipeline.training.data import Batch
from pipeline.training.freezing import train_mode
from pipeline.training.losses import Criterion, distillation, mass
from pipeline.training.mixing import mixed
from pipeline.training.optimisation import Optimisation

CHECKED = 20  # batches after which a GPU's losses are looked at; each look makes the GPU wait
AUXILIARY = 0.3  # weight of an auxiliary classifier's loss (Szegedy et al., "Going Deeper with Convolutions", 2015)


@dataclass(frozen=True)
class Teacher:
    """A trained model, evaluated on the student's augmented batch; fold maps its labels to the student's."""

    model: Deployable
    size: int
    fold: Tensor


@dataclass(frozen=True)
class Learner:
    """Everything needed to train on a batch; `parallel` is the model wrapped for all processes; `steps`: of the augmentation
    that the device does."""

    name: str
    labels: int
    model: Deployable
    parallel: nn.Module
    settings: Training
    optimisation: Optimisation
    criterion: Criterion
    teachers: Sequence[Teacher]
    steps: Sequence[Step]
    average: Average | None
    device: torch.device


def one_epoch(
    learner: Learner, batches: DataLoader[Batch], photos: int, epoch: int
) -> tuple[dict[str, float], set[str]]:
    """Returns the row of training metrics, and the reasons of photos left out; `photos` counts those of all processes."""
    train_mode(learner.model)
    settings, optimisation, device = learner.settings, learner.optimisation, learner.device
    sums = torch.zeros(3, dtype=torch.float64, device=device)  # loss, right answers, photos
    losses = torch.zeros(len(batches), device=device)
    every = 1 if device.type == "cpu" else CHECKED
    rate, unreadable = optimisation.rate, set[str]()
    title = f"{learner.name} epoch {epoch + 1}/{settings.epochs}"
    for i, batch in enumerate(progress(batches, len(batches), title)):
        unreadable |= set(batch.unreadable)
        check_unreadable(unreadable, photos, whole=not len(batch.labels))
        seen, labels = batch.photos.to(device, non_blocking=True), batch.labels.to(device, non_blocking=True)
        shown, target = mixed(varied(seen, batch.drawn, learner.steps), labels, learner.labels, settings.mix, epoch)
        factors = distributed.factors(torch.stack([learner.criterion.mass(target), mass(labels)]))
        rate, is_step = optimisation.rate, optimisation.is_step(i)
        with nullcontext() if is_step or distributed.world() == 1 else learner.parallel.no_sync():  # type: ignore[operator]
            loss, logits = _loss(learner, shown, target, factors)
            losses[i] = loss.detach()
            if (i + 1) % every == 0 or i + 1 == len(batches):
                _check_losses(losses[: i + 1], f"{learner.name}: the loss of epoch {epoch + 1}", settings)
            optimisation.backward(loss, i)
        if is_step:
            optimisation.step(epoch, i)
            if learner.average is not None:
                learner.average.update(learner.model.network)
        right = (logits.argmax(1) == labels).sum()
        sums += torch.stack([losses[i].double() * len(labels) / factors[1], right, mass(labels)])
    loss_sum, correct, count = distributed.total(sums).tolist()
    unreadable = set().union(*distributed.gathered(unreadable))
    check_unreadable(unreadable, photos)
    return {"train_loss": loss_sum / count, "train_acc": correct / count, "lr": rate}, unreadable


def _loss(learner: Learner, shown: Tensor, target: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """This process's loss, whose mean over all processes is that of the whole batch, and the logits; factors: of means
    over weights and over photos."""
    settings, device = learner.settings, learner.device
    half = torch.float16 if settings.precision == "fp16" else torch.bfloat16
    with torch.autocast(device.type, half, enabled=uses_half(settings.precision, device)):
        answer = learner.parallel(shown)
        if learner.teachers:
            with torch.inference_mode():
                theirs = [teacher.model(_resized(shown, teacher.size)).float() for teacher in learner.teachers]
    logits, *auxiliary = [part.float() for part in ([answer] if isinstance(answer, Tensor) else answer)]
    loss = learner.criterion(logits, target) * factors[0]
    if learner.teachers:
        taught = [(logit.clone(), teacher.fold) for logit, teacher in zip(theirs, learner.teachers, strict=True)]
        soft = distillation(logits, taught, settings.distill.temperature) * factors[1]
        loss = (1 - settings.distill.weight) * loss + settings.distill.weight * soft
    for part in auxiliary:
        loss = loss + AUXILIARY * learner.criterion(part, target) * factors[0]
    return loss, logits


def _check_losses(losses: Tensor, what: str, settings: Training) -> None:
    """Abort on the first batch whose loss is not finite."""
    finite = losses.isfinite().cpu()
    if not finite.all():
        first = int((~finite).nonzero()[0])
        check_finite(float(losses[first]), f"{what}, batch {first + 1}", settings)


def check_finite(loss: float, what: str, settings: Training) -> None:
    """Abort on a non-finite loss; the last kept model stays."""
    if not math.isfinite(loss):
        raise ModelError(
            f"{what} is not finite; lower lr ({settings.lr}) and train anew with --set global.overwrite=true, "
            "or under another experiment's name"
        )


def uses_half(precision: str, device: torch.device) -> bool:
    """Whether the network computes in half precision, as configured; "auto" on a GPU only."""
    return precision in ("bf16", "fp16") or (precision == "auto" and device.type == "cuda")


def _resized(photos: Tensor, size: int) -> Tensor:
    """Photos (n, s, s, 3) at the teacher's size; resized ones are uint8."""
    if photos.shape[1] == size:
        return photos
    planes = functional.interpolate(
        photos.permute(0, 3, 1, 2).float(), size=(size, size), mode="bilinear", antialias=True
    )
    return planes.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def evaluate(
    model: Deployable,
    batches: DataLoader[Batch],
    photos: int,
    labels: LabelSpace,
    train: NDArray[np.int64],
    device: torch.device,
) -> tuple[dict[str, float], set[str]]:
    """Loss, accuracy (also of the five best answers) and macro scores of the model on photos seen as the device sees them,
    F1 also over the head, middle and tail of the species by their photos in train; and why photos were left out. Each
    photo counts once."""
    model.eval()
    loss, among, truth, answers, unreadable = 0.0, 0, [], [], set[str]()
    with torch.inference_mode():
        for shown, wanted, _, reasons in batches:
            unreadable |= set(reasons)
            if not len(wanted):
                continue
            logits = model(shown.to(device)).float().cpu()
            loss += float(functional.cross_entropy(logits, wanted, reduction="sum"))
            five = logits.topk(min(5, len(labels)), dim=1).indices
            among += int((five == wanted[:, None]).sum())
            truth.append(wanted.numpy())
            answers.append(logits.argmax(1).numpy())
    parts = distributed.gathered((loss, among, truth, answers, unreadable))
    losses, found, truths, said, left_out = zip(*parts, strict=True)
    unreadable = set().union(*left_out)
    check_unreadable(unreadable, photos)
    y, p = (np.concatenate([one for part in parts for one in part]) for parts in (truths, said))
    row = {"val_loss": sum(losses) / len(y), "val_acc": float((y == p).mean()), "val_top5_acc": sum(found) / len(y)}
    return row | macro_scores(y, p, labels, train), unreadable


def macro_scores(
    truth: NDArray[np.int64], answers: NDArray[np.int64], labels: LabelSpace, train: NDArray[np.int64]
) -> dict[str, float]:
    """Mean F1, precision and recall over the labels that occur; mean F1 over the head, middle and tail species by their
    photos in train, where some of them occur."""
    hit, support, said = counts(truth, answers, len(labels))
    of = rates(hit, support, said)
    row = {f"val_macro_{name}": float(macro(of[name], support)) for name in ("f1", "precision", "recall")}
    for part, names in long_tail(dict(zip(labels.names, train.tolist(), strict=True))).items():
        ids = labels.ids(names)
        if support[ids].any():
            row[f"val_f1_{part}"] = float(macro(of["f1"][ids], support[ids]))
    return row
