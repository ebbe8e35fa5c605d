"""The training loop learns, keeps the best and stops early."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.edge.recipe import Recipe
from pipeline.labels import LabelSpace
from pipeline.models.checkpoint import read_card
from pipeline.models.deployable import Deployable
from pipeline.training.data import EpochOrder, loader
from pipeline.training.epoch import Teacher, evaluate
from pipeline.training.losses import folding

from .conftest import (
    CARD,
    LABELS,
    RECIPE,
    TRAIN,
    VAL,
    Constant,
    Run,
    metrics,
    network,
    same_end,
    sets,
)


def test_colours_are_learnt(run: Run, tmp_path: Path) -> None:
    card = run(epochs=6, lr=0.05)
    table = metrics(tmp_path / "model")
    assert card.metrics["val_acc"] > 0.8  # the most frequent species alone would give 1/3
    assert card.metrics["val_macro_f1"] > 0.6  # and that 1/8
    assert table["train_loss"].iloc[-1] < table["train_loss"].iloc[0]


def test_metrics_have_one_row_per_epoch_and_the_rate_of_its_last_step(run: Run, tmp_path: Path) -> None:
    run(lr=0.02, warmup_epochs=1)
    table = metrics(tmp_path / "model")
    assert list(table) == [
        "epoch",
        "train_loss",
        "train_acc",
        "lr",
        "val_loss",
        "val_acc",
        "val_top5_acc",
        "val_macro_f1",
        "val_macro_precision",
        "val_macro_recall",
        "val_f1_tail",
    ]
    assert table["epoch"].tolist() == [1, 2, 3]
    batches = -(-sum(TRAIN.values()) // 6)
    cosine = [(1 + np.cos(np.pi * (k * batches - 1) / (2 * batches))) / 2 for k in (1, 2)]
    assert table["lr"].tolist() == pytest.approx([0.02, 0.02 * cosine[0], 0.02 * cosine[1]], rel=1e-5)


def test_best_epoch_by_macro_f1_is_the_one_kept(run: Run, tmp_path: Path) -> None:
    states = []
    net = network()

    def keep(row: dict[str, float]) -> None:
        states.append({name: tensor.clone() for name, tensor in net.state_dict().items()})

    card = run(net=net, on_epoch=keep, epochs=6, lr=0.2)
    table = metrics(tmp_path / "model")
    best = int(table["val_macro_f1"].to_numpy().argmax())  # the first of equals
    kept = load_file(tmp_path / "model" / "weights.safetensors")
    assert all(torch.equal(kept[name], states[best][name]) for name in kept)
    assert read_card(tmp_path / "model").training["epoch"] == best + 1
    assert read_card(tmp_path / "model").metrics == card.metrics
    assert card.metrics == pytest.approx(table.iloc[best].filter(like="val_").to_dict(), rel=1e-5)
    assert 0 < best + 1 < 6  # else the test would not tell best from last


@pytest.mark.parametrize(("monitor", "column", "sign"), [("accuracy", "val_acc", 1), ("loss", "val_loss", -1)])
def test_best_epoch_is_chosen_by_what_is_monitored(
    run: Run, tmp_path: Path, monitor: str, column: str, sign: int
) -> None:
    run(epochs=6, lr=0.2, monitor=monitor, patience=2)
    values = sign * metrics(tmp_path / "model")[column]
    assert read_card(tmp_path / "model").training["epoch"] == int(values.to_numpy().argmax()) + 1
    assert len(values) == min(6, int(values.to_numpy().argmax()) + 3)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_workers_do_not_change_the_result(run: Run, tmp_path: Path, dropout: float) -> None:
    for name, workers in (("alone", 0), ("helped", 2)):
        torch.manual_seed(0)
        run(name, network(dropout=dropout), epochs=2, workers=workers)
    same_end(tmp_path / "helped", tmp_path / "alone")


def test_seed_changes_the_result(run: Run, tmp_path: Path) -> None:
    run("five", epochs=1, warmup_epochs=0)
    run("six", epochs=1, warmup_epochs=0, card=replace(CARD, seed=6))
    assert metrics(tmp_path / "five")["train_loss"].tolist() != metrics(tmp_path / "six")["train_loss"].tolist()


def test_patience_stops_a_training_that_gets_no_better(
    run: Run, tmp_path: Path, lines: Callable[[], list[str]]
) -> None:
    run(net=Constant(1, 0, 0, 0), epochs=9, patience=2)
    assert metrics(tmp_path / "model")["epoch"].tolist() == [1, 2, 3]
    assert read_card(tmp_path / "model").training["epoch"] == 1
    assert "main: no better val macro_f1 for 2 epochs, stopping" in lines()
    run(net=Constant(1, 0, 0, 0), epochs=9, patience=2)  # killed just then, the same command stops again
    assert metrics(tmp_path / "model")["epoch"].tolist() == [1, 2, 3]


def test_without_patience_every_epoch_is_done(run: Run, tmp_path: Path) -> None:
    run(net=Constant(1, 0, 0, 0), epochs=5, patience=0)
    assert len(metrics(tmp_path / "model")) == 5


@pytest.mark.parametrize("size", [32, 48])
def test_student_follows_the_teacher_of_any_size_where_labels_weigh_nothing(
    run: Run, size: int, tmp_path: Path
) -> None:
    seen: list[torch.Size] = []
    answer = Constant(0, 0, 9, 0)
    answer.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape))
    student = replace(CARD, labels=LabelSpace(("Bombus", "Apis", "Other")))
    teacher = Teacher(
        Deployable(answer, replace(RECIPE, size=size)), size, folding(LABELS, student.labels)
    )  # says Colias, which the student calls Other
    before = answer.weight.detach().clone()
    run(net=network(3), card=student, teacher=teacher, lr=0.1, distill={"teacher": "main", "weight": 1.0})
    others = VAL["Colias"] + VAL["Danaus"]
    assert metrics(tmp_path / "model")["val_acc"].iloc[-1] == pytest.approx(others / sum(VAL.values()), abs=1e-5)
    assert {tuple(shape[1:]) for shape in seen} == {(3, size, size)}
    assert torch.equal(answer.weight, before)


def test_distillation_weight_shares_the_loss(run: Run, tmp_path: Path) -> None:
    teacher = Teacher(Deployable(Constant(0, 0, 2, 0), RECIPE), 32, torch.eye(4))
    losses = {}
    for weight in (0.0, 0.25, 1.0):
        changes: dict[str, Any] = {"epochs": 1, "warmup_epochs": 0, "lr": 1e-12, "weight_decay": 0}
        distill = {"teacher": "main", "weight": weight, "temperature": 1.0}
        run(f"{weight}", Constant(1, 0, 0, 0), teacher=teacher, distill=distill, **changes)
        losses[weight] = float(metrics(tmp_path / f"{weight}")["train_loss"].iloc[0])
    q, p = (np.exp(x) / np.exp(x).sum() for x in (np.array([1.0, 0, 0, 0]), np.array([0, 0, 2.0, 0])))
    assert losses[1.0] == pytest.approx(float((p * np.log(p / q)).sum()), rel=1e-4)
    assert losses[0.25] == pytest.approx(0.75 * losses[0.0] + 0.25 * losses[1.0], rel=1e-4)


def test_label_smoothing_and_class_weights_reach_the_loss(run: Run, tmp_path: Path) -> None:
    def loss(name: str, **changes: Any) -> float:
        run(name, Constant(2, 0, 0, 0), epochs=1, warmup_epochs=0, lr=1e-12, weight_decay=0, batch_size=26, **changes)
        return float(metrics(tmp_path / name)["train_loss"].iloc[0])

    log = -np.log(np.exp([2, 0, 0, 0]) / np.exp([2, 0, 0, 0]).sum())
    counts = np.array(list(TRAIN.values()))
    assert loss("plain", label_smoothing=0) == pytest.approx((counts * log).sum() / counts.sum(), rel=1e-4)
    smooth = 0.8 * log + 0.2 * log.mean()
    assert loss("smooth", label_smoothing=0.2) == pytest.approx((counts * smooth).sum() / counts.sum(), rel=1e-4)
    assert loss("inverse", label_smoothing=0, class_weights="inverse") == pytest.approx(log.mean(), rel=1e-4)


def test_weight_decay_spares_biases_and_normalisation(run: Run) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4), nn.BatchNorm1d(4))
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    for parameter in net.parameters():
        parameter.register_hook(torch.zeros_like)  # nothing is learnt, so only the decay acts
    run(net=net, lr=0.1, weight_decay=1.0)
    after = dict(net.named_parameters())
    assert after["1.weight"].abs().sum() < 0.9 * before["1.weight"].abs().sum()
    assert all(torch.equal(after[name], before[name]) for name in ("1.bias", "2.weight", "2.bias"))


def test_macro_scores_are_over_the_labels_that_occur(coloured: Path) -> None:
    labels = LabelSpace((*LABELS.names, "Vanessa"))  # of which val has no photo
    _, val = sets(coloured, labels=labels)
    batches = loader(val, EpochOrder(len(val), 0, shuffle=False), 5, 0)
    train = np.array([*TRAIN.values(), 200])
    found, unreadable = evaluate(
        Deployable(Constant(0, 5, 0, 0, -90), RECIPE), batches, len(val), labels, train, torch.device("cpu")
    )
    assert not unreadable
    assert "val_f1_head" not in found
    share = VAL["Bombus"] / sum(VAL.values())
    assert found["val_acc"] == pytest.approx(share)
    assert found["val_top5_acc"] == 1
    assert found["val_macro_f1"] == pytest.approx(2 * share / (1 + share) / 4)
    assert found["val_macro_precision"] == pytest.approx(share / 4)
    assert found["val_macro_recall"] == pytest.approx(1 / 4)
    probability = np.exp([5, 0]) / (np.exp(5) + 3)
    assert found["val_loss"] == pytest.approx(-share * np.log(probability[0]) - (1 - share) * np.log(probability[1]))


def test_the_five_best_answers_count_a_photo_that_the_best_one_misses(coloured: Path) -> None:
    labels = LabelSpace((*LABELS.names, "Vanessa", "Pieris"))
    _, val = sets(coloured, labels=labels)
    batches = loader(val, EpochOrder(len(val), 0, shuffle=False), 5, 0)
    model = Deployable(Constant(0, 1, 2, 3, 4, 5), RECIPE)
    found, _ = evaluate(model, batches, len(val), labels, np.ones(6, int), torch.device("cpu"))
    assert found["val_acc"] == 0
    assert found["val_top5_acc"] == pytest.approx(1 - VAL["Apis"] / sum(VAL.values()))


def test_progress_lines_tell_what_was_reached(run: Run, lines: Callable[[], list[str]]) -> None:
    run(epochs=2)
    pattern = r"main epoch {}/2: train loss [\d.]+, val loss [\d.]+, val accuracy [\d.]+, val macro F1 [\d.]+( best)? \(\d+ s\)"
    said = lines()
    assert all(any(re.fullmatch(pattern.format(epoch), line) for line in said) for epoch in (1, 2))


def test_recipe_of_the_card_sizes_the_photos(run: Run, tmp_path: Path) -> None:
    seen: list[torch.Size] = []
    net = network()
    net.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape))
    run(net=net, card=replace(CARD, recipe=Recipe(size=40)), epochs=1, warmup_epochs=0)
    assert {tuple(shape[1:]) for shape in seen} == {(3, 40, 40)}


def test_half_precision_with_a_scaled_loss_learns(run: Run, tmp_path: Path) -> None:
    card = run(epochs=6, lr=0.05, precision="fp16")
    assert card.metrics["val_acc"] > 0.8
    assert torch.load(tmp_path / "model" / "last.pt", weights_only=True)["optimisation"]["scaler"]["scale"] > 0


def test_compiling_is_asked_of_the_model_as_trained(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[nn.Module] = []
    monkeypatch.setattr(Deployable, "compile", lambda model: asked.append(model))
    run(epochs=1, warmup_epochs=0)
    assert not asked
    run("compiled", epochs=1, warmup_epochs=0, compile=True)
    assert [type(model) for model in asked] == [Deployable]


def test_compiled_training_is_the_same(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traced = partialmethod(nn.Module.compile, backend="eager")  # all of torch.compile but the C++ compiler
    monkeypatch.setattr(Deployable, "compile", traced)
    for name, asked in (("plain", False), ("compiled", True)):
        torch.manual_seed(0)
        run(name, network(dropout=0.0), epochs=1, warmup_epochs=0, compile=asked)
    same_end(tmp_path / "compiled", tmp_path / "plain")


class Auxiliary(nn.Module):
    """Gives logits and two auxiliary ones while training."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, photos: Tensor) -> Any:
        logits = [(self.weight * torch.tensor(row)).expand(len(photos), -1) for row in ([1.0, 0, 0, 0], [0, 3.0, 0, 0])]
        return (logits[0], logits[1], logits[1]) if self.training else logits[0]


def test_auxiliary_classifiers_add_a_third_of_their_loss(run: Run, tmp_path: Path) -> None:
    still: dict[str, Any] = {"epochs": 1, "warmup_epochs": 0, "lr": 1e-12, "weight_decay": 0}
    for name, net in (("both", Auxiliary()), ("main", Constant(1, 0, 0, 0)), ("aux", Constant(0, 3, 0, 0))):
        run(name, net, **still)
    both, main, aux = (float(metrics(tmp_path / name)["train_loss"].iloc[0]) for name in ("both", "main", "aux"))
    assert both == pytest.approx(main + 2 * 0.3 * aux, rel=1e-4)
