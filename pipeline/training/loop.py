"""The training loop: after a kill the same command continues after the last complete epoch, with the same result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.console import log
from pipeline.errors import ConfigError, LabelSpaceError
from pipeline.files import write_csv
from pipeline.models.checkpoint import CARD, ModelCard, is_intact, read_card, save_model
from pipeline.models.deployable import Deployable
from pipeline.models.registry import head
from pipeline.sections.training import Training
from pipeline.training import distributed
from pipeline.training.average import Average
from pipeline.training.batched import Step
from pipeline.training.data import EpochOrder, Photos, loader, mix, sampling_weights
from pipeline.training.epoch import Learner, Teacher, check_finite, evaluate, one_epoch
from pipeline.training.freezing import freeze
from pipeline.training.losses import criterion
from pipeline.training.memory import out_of_memory
from pipeline.training.optimisation import Optimisation
from pipeline.training.state import State, load_last, save_last

VAL_BATCH = 128
METRICS = "training_metrics.csv"  # of the model folder: a row per epoch
MONITORED = {"macro_f1": ("val_macro_f1", 1), "accuracy": ("val_acc", 1), "loss": ("val_loss", -1)}  # 1: more is better


def train(folder: Path, network: nn.Module, card: ModelCard, settings: Training, train_set: Photos, val_set: Photos,
          teachers: Sequence[Teacher] = (), on_epoch: Callable[[dict[str, float]], None] | None = None) -> ModelCard:  # fmt: skip
    """Train `network` into the model folder; returns the card of the best epoch on val (`monitor`).

    Written on the way: last.pt (to go on), training_metrics.csv (one row per epoch), and the model folder itself.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    counts = _photos_per_label(card, train_set, val_set)
    _check_shares(card.name, min(settings.batch_size, len(train_set)))
    order = EpochOrder(len(train_set), card.seed, True, sampling_weights(train_set.labels, settings.sampler))
    batches, val_batches = (
        loader(photos, how, size, settings.workers, distributed.rank(), distributed.world())
        for photos, how, size in (
            (train_set, order, settings.batch_size),
            (val_set, EpochOrder(len(val_set), card.seed, False), VAL_BATCH),
        )
    )
    with out_of_memory(settings):
        learner, judged = _learner(network, card, settings, len(batches), counts, teachers, train_set.steps, device)
    network, optimisation, average = learner.model.network, learner.optimisation, learner.average
    classifier, learnable = head(network), {name for name, p in network.named_parameters() if p.requires_grad}
    state = load_last(folder / "last.pt", network, optimisation, average, card)
    if not _best_stands(folder):
        state.best = -math.inf
    while state.epoch < settings.epochs:
        if settings.patience and state.epoch - 1 - state.best_epoch >= settings.patience:
            log.info("%s: no better val %s for %d epochs, stopping", card.name, settings.monitor, settings.patience)
            break
        start, order.epoch = time.monotonic(), state.epoch
        if freeze(network, learnable, classifier, settings.freeze, state.epoch) or learner.parallel is learner.model:
            learner = replace(learner, parallel=distributed.parallel(learner.model))
        rank = (distributed.rank(),) if distributed.rank() else ()
        torch.manual_seed(mix(card.seed, state.epoch, *rank))  # dropout, mixing
        with out_of_memory(settings):
            trained, unread = one_epoch(learner, batches, len(train_set), state.epoch)
            distributed.same_statistics(judged)
            measured, unread_val = evaluate(judged, val_batches, len(val_set), card.labels, counts, device)
        # the last step of an epoch may make the weights non-finite without a loss that shows it
        check_finite(measured["val_loss"], f"{card.name}: the val loss of epoch {state.epoch + 1}", settings)
        row = {"epoch": state.epoch + 1.0, **trained, **measured, "seconds": time.monotonic() - start}
        optimisation.schedule.after_epoch(row["val_loss"])
        card = _keep(folder, judged.network, card, row, settings, state)
        state.epoch += 1
        state.unreadable = sorted({*state.unreadable, *unread, *unread_val})
        if on_epoch:
            on_epoch(row)
        if distributed.is_writer():
            write_csv(folder / METRICS, pd.DataFrame(state.history).astype({"epoch": int}))
            # until this file exists, the epoch is repeated, and told again
            save_last(folder / "last.pt", network, optimisation, average, card, state)
        _tell(card, row, settings, state)
    unreadable = {"unreadable": len(state.unreadable)} if state.unreadable else {}
    return replace(card, training={**card.training, **unreadable})


def _learner(network: nn.Module, card: ModelCard, settings: Training, batches: int, counts: NDArray[np.int64],
             teachers: Sequence[Teacher], steps: Sequence[Step], device: torch.device) -> tuple[Learner, Deployable]:  # fmt: skip
    """The trained model, and the one that is evaluated and stored: the same, or its weight average."""
    network = distributed.synchronised(network)
    model = Deployable(network, card.recipe).to(device)
    if settings.compile:
        model.compile()
    average = Average(network, settings.ema) if settings.ema else None
    learner = Learner(
        card.name, len(card.labels), model, model, settings,
        Optimisation(network, head(network), settings, batches, device.type), criterion(settings, counts, device),
        [replace(t, model=t.model.to(device).eval(), fold=t.fold.to(device)) for t in teachers], steps, average, device,
    )  # fmt: skip
    return learner, Deployable(average.network, card.recipe).to(device) if average else model


def _check_shares(name: str, batch: int) -> None:
    """Refuse batches that leave a process without photos: the others would wait for it for ever."""
    processes = distributed.world()
    if processes > 1 and batch < 2 * processes:
        raise ConfigError(
            f"{name}: batches of {batch} photos are too small for {processes} processes, each of which learns from two "
            "at least; raise batch_size or start fewer processes"
        )


def _photos_per_label(card: ModelCard, train_set: Photos, val_set: Photos) -> NDArray[np.int64]:
    """Training photos per label; warns of labels that a split lacks, and refuses labels that the model lacks."""
    for part, photos in (("train", train_set), ("val", val_set)):
        if (outside := photos.labels[(photos.labels < 0) | (photos.labels >= len(card.labels))]).size:
            raise LabelSpaceError(
                f"{card.name}: the {part} part has label {outside[0]}, the model has labels 0 to {len(card.labels) - 1}; "
                "run dataset_orchestrator.py again"
            )
        absent = [name for i, name in enumerate(card.labels.names) if not (photos.labels == i).any()]
        if absent:
            what = "cannot be learnt" if part == "train" else "count as never found"
            log.warning(
                "%s: %d labels have no photo in %s and %s, e.g. %s", card.name, len(absent), part, what, absent[0]
            )
    return np.bincount(train_set.labels, minlength=len(card.labels))


def _keep(folder: Path, network: nn.Module, card: ModelCard, row: dict[str, float], settings: Training,
          state: State) -> ModelCard:  # fmt: skip
    """Record the epoch, and write the model folder if it is the best so far."""
    state.history.append(row)
    key, sign = MONITORED[settings.monitor]
    if sign * row[key] <= state.best:
        return card
    state.best, state.best_epoch = sign * row[key], state.epoch
    card = replace(card, metrics={key: value for key, value in row.items() if key.startswith("val_")})
    if distributed.is_writer():
        save_model(folder, network, replace(card, training={**card.training, "epoch": state.epoch + 1}))
    return card


def _best_stands(folder: Path) -> bool:
    """Whether the best epoch's model is complete; after a kill between weights and card the former one is overwritten."""
    return (folder / CARD).is_file() and is_intact(folder, read_card(folder))


def _tell(card: ModelCard, row: dict[str, float], settings: Training, state: State) -> None:
    log.info(
        "%s epoch %d/%d: train loss %.3f, val loss %.3f, val accuracy %.4f, val macro F1 %.4f%s (%.0f s)",
        card.name, state.epoch, settings.epochs, row["train_loss"], row["val_loss"], row["val_acc"],
        row["val_macro_f1"], " best" if state.best_epoch == state.epoch - 1 else "", row["seconds"],
    )  # fmt: skip
    if state.unreadable and distributed.is_writer():
        n, first = len(state.unreadable), state.unreadable[0]
        log.warning("%s: %d photos cannot be read and are left out, e.g. %s", card.name, n, first)
