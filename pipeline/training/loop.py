"""The training loop: kill it at any moment, the same command goes on after the last whole epoch and ends the same."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from pipeline.console import log, progress
from pipeline.errors import ModelError
from pipeline.files import replacing
from pipeline.models.checkpoint import ModelCard, save_model
from pipeline.models.deployable import Deployable
from pipeline.models.weights import read_torch
from pipeline.sections import Training
from pipeline.training.average import Average
from pipeline.training.data import EpochOrder, Photos, loader, mix
from pipeline.training.losses import class_weights, distillation
from pipeline.training.schedule import warmup_cosine


@dataclass(frozen=True)
class Teacher:
    """A trained model that is asked about the very photo, as varied, that the student sees; fold joins the labels."""

    model: Deployable
    size: int
    fold: Tensor


@dataclass
class State:
    """What a killed training needs to go on."""

    epoch: int = 0
    best: float = -1.0
    best_epoch: int = -1
    history: list[dict[str, float]] | None = None


def train(folder: Path, network: nn.Module, card: ModelCard, settings: Training, train_set: Photos, val_set: Photos,
          teacher: Teacher | None = None, on_epoch: Callable[[dict[str, float]], None] | None = None) -> ModelCard:  # fmt: skip
    """Train `network` into the model folder; returns the card of the best epoch by macro F1 on val.

    Written on the way: last.pt (to go on), training_metrics.csv (one row per epoch), and the model folder itself.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = Deployable(network, card.recipe).to(device)
    optimizer = torch.optim.AdamW(_groups(network, settings.weight_decay), lr=settings.lr)
    order = EpochOrder(len(train_set), card.seed, shuffle=True)
    batches = loader(train_set, order, settings.batch_size, settings.workers)
    val_batches = loader(val_set, EpochOrder(len(val_set), card.seed, shuffle=False), 128, settings.workers)
    counts = np.bincount(train_set.labels, minlength=len(card.labels))
    weights = class_weights(counts, settings.class_weights)
    weights = weights.to(device) if weights is not None else None
    if teacher is not None:
        teacher = replace(teacher, model=teacher.model.to(device).eval(), fold=teacher.fold.to(device))
    average = Average(network, settings.ema) if settings.ema else None
    judged = Deployable(average.network, card.recipe).to(device) if average else model
    state = _load_last(folder / "last.pt", network, optimizer, average, card)
    history = state.history = state.history or []
    while state.epoch < settings.epochs:
        if settings.patience and state.epoch - 1 - state.best_epoch >= settings.patience:
            log.info("%s: no better val macro F1 for %d epochs, stopping", card.name, settings.patience)
            break
        start = time.monotonic()
        order.epoch = state.epoch
        torch.manual_seed(mix(card.seed, state.epoch))  # dropout
        row = {"epoch": float(state.epoch + 1)}
        row |= _one_epoch(
            model, batches, optimizer, average, settings, state.epoch, weights, teacher, card.name, device
        )
        row |= evaluate(judged, val_batches, len(card.labels), device)
        row["seconds"] = time.monotonic() - start
        history.append(row)
        if row["val_macro_f1"] > state.best:
            state.best, state.best_epoch = row["val_macro_f1"], state.epoch
            card = replace(card, metrics={key: value for key, value in row.items() if key.startswith("val_")})
            save_model(folder, judged.network, replace(card, training={**card.training, "epoch": state.epoch + 1}))
        state.epoch += 1
        with replacing(folder / "training_metrics.csv") as temporary:
            pd.DataFrame(history).astype({"epoch": int}).to_csv(temporary, index=False, float_format="%.6g")
        _save_last(
            folder / "last.pt", network, optimizer, average, card, state
        )  # until it stands, the epoch is done again
        log.info(
            "%s epoch %d/%d: train loss %.3f, val loss %.3f, val accuracy %.4f, val macro F1 %.4f%s (%.0f s)",
            card.name, state.epoch, settings.epochs, row["train_loss"], row["val_loss"], row["val_acc"],
            row["val_macro_f1"], " best" if state.best_epoch == state.epoch - 1 else "", row["seconds"],
        )  # fmt: skip
        if on_epoch:
            on_epoch(row)
    return card


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """No weight decay on biases and normalisation (He et al., "Bag of Tricks", 2019)."""
    decay = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    rest = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _one_epoch(model: Deployable, batches: DataLoader[tuple[Tensor, Tensor]], optimizer: torch.optim.Optimizer,
               average: Average | None, settings: Training, epoch: int, weights: Tensor | None,
               teacher: Teacher | None, name: str, device: torch.device) -> dict[str, float]:  # fmt: skip
    model.train()
    per_epoch = len(batches)
    steps, warmup = settings.epochs * per_epoch, math.ceil(settings.warmup_epochs * per_epoch)
    loss_sum = correct = seen = 0.0
    rate = settings.lr
    for i, (photos, labels) in enumerate(progress(batches, per_epoch, f"{name} epoch {epoch + 1}/{settings.epochs}")):
        photos, labels = photos.to(device), labels.to(device)
        rate = settings.lr * warmup_cosine(epoch * per_epoch + i, steps, warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = model(photos).float()
            loss = functional.cross_entropy(logits, labels, weights, label_smoothing=settings.label_smoothing)
            if teacher is not None:
                with torch.inference_mode():
                    theirs = teacher.model(_resized(photos, teacher.size)).float()
                soft = distillation(logits, theirs.clone(), teacher.fold, settings.distill.temperature)
                loss = (1 - settings.distill.weight) * loss + settings.distill.weight * soft
        if not torch.isfinite(loss):
            raise ModelError(
                f"{name}: the loss of epoch {epoch + 1}, batch {i + 1} is not finite; lower lr ({settings.lr})"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if average is not None:
            average.update(model.network)
        loss_sum += float(loss.detach()) * len(labels)
        correct += float((logits.argmax(1) == labels).sum())
        seen += len(labels)
    return {"train_loss": loss_sum / seen, "train_acc": correct / seen, "lr": rate}


def _resized(photos: Tensor, size: int) -> Tensor:
    """Photos (n, s, s, 3) uint8 at the teacher's size."""
    if photos.shape[1] == size:
        return photos
    planes = functional.interpolate(
        photos.permute(0, 3, 1, 2).float(), size=(size, size), mode="bilinear", antialias=True
    )
    return planes.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def evaluate(
    model: Deployable, batches: DataLoader[tuple[Tensor, Tensor]], labels: int, device: torch.device
) -> dict[str, float]:
    """Loss, accuracy and macro F1 of the model on photos seen as the device sees them."""
    model.eval()
    loss, truth, answers = 0.0, [], []
    with torch.inference_mode():
        for photos, wanted in batches:
            logits = model(photos.to(device)).float().cpu()
            loss += float(functional.cross_entropy(logits, wanted, reduction="sum"))
            truth.append(wanted.numpy())
            answers.append(logits.argmax(1).numpy())
    y, p = np.concatenate(truth), np.concatenate(answers)
    f1 = f1_score(y, p, labels=np.arange(labels), average="macro", zero_division=0)
    return {"val_loss": loss / len(y), "val_acc": float((y == p).mean()), "val_macro_f1": float(f1)}


def _save_last(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None,
               card: ModelCard, state: State) -> None:  # fmt: skip
    content = {
        "fingerprint": card.training["fingerprint"],
        "state": {"epoch": state.epoch, "best": state.best, "best_epoch": state.best_epoch, "history": state.history},
        "metrics": card.metrics,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": {"network": average.network.state_dict(), "steps": average.steps} if average else None,
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def _load_last(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None,
               card: ModelCard) -> State:  # fmt: skip
    if not path.is_file():
        return State()
    content = read_torch(path)
    if content["fingerprint"] != card.training["fingerprint"]:
        raise ModelError(
            f"{path} belongs to a training with other settings or another manifest; go back to them, "
            "or train anew with --set global.overwrite=true"
        )
    network.load_state_dict(content["network"])
    optimizer.load_state_dict(content["optimizer"])
    if average:
        average.network.load_state_dict(content["average"]["network"])
        average.steps = content["average"]["steps"]
    card.metrics.update(content["metrics"])
    state = State(**content["state"])
    log.info("%s: going on after epoch %d", card.name, state.epoch)
    return state
