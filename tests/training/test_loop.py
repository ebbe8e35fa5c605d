"""The training loop learns, keeps the best, stops early, and can be killed anywhere without a trace."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.edge.recipe import Recipe
from pipeline.errors import ConfigError, DataError, LabelSpaceError, ModelError
from pipeline.labels import LabelSpace
from pipeline.models.checkpoint import ModelCard, is_intact, read_card
from pipeline.models.deployable import Deployable
from pipeline.sections_training import Training
from pipeline.training.data import EpochOrder, loader
from pipeline.training.epoch import Teacher, evaluate
from pipeline.training.loop import train
from pipeline.training.losses import folding

from .conftest import CARD, LABELS, RECIPE, TRAIN, VAL, network, sets, settings


class Killed(BaseException):
    """Ends a training as a kill does: nothing in the loop expects it."""


class Constant(nn.Module):
    """Gives the same logits for every photo, times a weight that can be learnt."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.register_buffer("logits", torch.tensor(logits))
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, photos: Tensor) -> Tensor:
        return (self.weight * self.logits).expand(len(photos), -1)


Run = Callable[..., ModelCard]


@pytest.fixture
def run(tmp_path: Path, coloured: Path) -> Run:
    """Trains into tmp_path/<name> as the same command would each time; keyword arguments are settings."""

    def once(name: str = "model", net: nn.Module | None = None, on_epoch: Any = None, teacher: Any = None,
             card: ModelCard = CARD, **changes: Any) -> ModelCard:  # fmt: skip
        torch.manual_seed(card.seed)
        given: Training = settings(**changes)
        net = net or network()
        return train(tmp_path / name, net, card, given, *sets(coloured, card), [teacher] if teacher else [], on_epoch)

    return once


def metrics(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "training_metrics.csv").drop(columns="seconds")


def last_weights(folder: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(folder / "last.pt", weights_only=True)["network"]
    return weights


def same_end(one: Path, other: Path) -> None:
    """The two folders hold the same files, and the same in them but for the seconds."""
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())
    pd.testing.assert_frame_equal(metrics(one), metrics(other), check_exact=True)
    assert (one / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()
    assert (one / "model.json").read_bytes() == (other / "model.json").read_bytes()
    ours, theirs = last_weights(one), last_weights(other)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


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


@pytest.mark.parametrize(("epochs_before", "ema"), [(1, 0.0), (2, 0.0), (1, 0.9)])
def test_killed_training_goes_on_and_ends_the_same_to_the_bit(
    run: Run, tmp_path: Path, epochs_before: int, ema: float
) -> None:
    def kill(row: dict[str, float]) -> None:
        if row["epoch"] == epochs_before:
            raise Killed

    run("undisturbed", ema=ema)
    with pytest.raises(Killed):
        run("killed", on_epoch=kill, ema=ema)
    assert len(metrics(tmp_path / "killed")) == epochs_before
    rows: list[dict[str, float]] = []
    torch.manual_seed(12345)  # whatever the interpreter did before
    run("killed", on_epoch=rows.append, ema=ema)
    assert [row["epoch"] for row in rows] == list(range(epochs_before + 1, 4))
    same_end(tmp_path / "killed", tmp_path / "undisturbed")


def test_training_killed_after_any_write_ends_the_same(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = itertools.count(1)
    rename, stop = Path.replace, [0]

    def counted(self: Path, target: Path) -> Path:
        result = rename(self, target)
        if next(writes) == stop[0]:
            raise Killed
        return result

    monkeypatch.setattr(Path, "replace", counted)
    run("undisturbed", epochs=2)
    total = next(writes) - 1
    assert total >= 2 * 2 + 2  # each epoch's metrics and state, and a best one's weights and card
    for stop[0] in range(1, total + 1):
        writes = itertools.count(1)
        with pytest.raises(Killed):
            run(f"killed{stop[0]}", epochs=2)
        writes = itertools.count(total + 1)
        run(f"killed{stop[0]}", epochs=2)
        same_end(tmp_path / f"killed{stop[0]}", tmp_path / "undisturbed")


def test_best_model_that_a_kill_left_with_other_weights_is_made_anew(run: Run, tmp_path: Path) -> None:
    def kill(row: dict[str, float]) -> None:
        raise Killed

    still: dict[str, Any] = {"epochs": 3, "lr": 1e-12, "weight_decay": 0}  # so that no later epoch is better
    with pytest.raises(Killed):
        run(net=Constant(1, 0, 0, 0), on_epoch=kill, **still)
    folder = tmp_path / "model"
    save_file({"of": torch.ones(1)}, folder / "weights.safetensors")  # where a GPU's next epoch would not end the same
    run(net=Constant(1, 0, 0, 0), **still)
    assert read_card(folder).training["epoch"] == 2
    assert is_intact(folder, read_card(folder))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_workers_do_not_change_the_result(run: Run, tmp_path: Path, dropout: float) -> None:
    for name, workers in (("alone", 0), ("helped", 2)):
        torch.manual_seed(0)
        run(name, network(dropout=dropout), epochs=2, workers=workers)
    same_end(tmp_path / "helped", tmp_path / "alone")


def test_killed_training_with_workers_and_dropout_ends_the_same(run: Run, tmp_path: Path) -> None:
    def kill(row: dict[str, float]) -> None:
        raise Killed

    run("undisturbed", epochs=2, workers=1)
    with pytest.raises(Killed):
        run("killed", on_epoch=kill, epochs=2, workers=1)
    run("killed", epochs=2, workers=1)
    same_end(tmp_path / "killed", tmp_path / "undisturbed")


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


def test_exploding_loss_stops_and_names_lr(run: Run, tmp_path: Path) -> None:
    message = r"main: the loss of epoch [12], batch \d is not finite; lower lr \(1e\+30\)"
    with pytest.raises(ModelError, match=message):
        run(net=nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 9), nn.Linear(9, 4)), lr=1e30, warmup_epochs=0)
    with pytest.raises(ModelError, match=r"epoch 1, batch 1 is not finite; lower lr \(0\.02\)"):
        run("nan", net=Constant(float("nan"), 0, 0, 0))
    assert not (tmp_path / "nan").exists()


def test_state_of_a_training_with_other_settings_is_refused(run: Run, tmp_path: Path) -> None:
    run(epochs=1, warmup_epochs=0)
    with pytest.raises(
        ModelError, match=r"last\.pt belongs to a training with other settings .* global\.overwrite=true"
    ):
        run(card=replace(CARD, training={"fingerprint": "other"}))


def test_damaged_state_is_refused_and_executes_nothing(run: Run, tmp_path: Path) -> None:
    run(epochs=1, warmup_epochs=0)
    last = tmp_path / "model" / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"last\.pt is no torch file, or not a whole one"):
        run()
    torch.save(network(), last)
    with pytest.raises(ModelError, match=r"last\.pt is a pickled checkpoint that would execute code .* refused"):
        run()


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


RESUMED: list[dict[str, Any]] = [
    {"schedule": {"name": "one_cycle"}, "optimizer": {"name": "sgd", "lr_factors": {"0.": 0.1}}},
    {"schedule": {"name": "plateau", "arguments": {"patience": 0}}, "optimizer": {"name": "adam", "clip_norm": 1.0}},
    {"schedule": {"name": "multi_step"}, "optimizer": {"accumulate": 2}, "sampler": "balanced"},
    {"schedule": {"name": "warm_restarts"}, "mix": {"mixup": 0.5, "cutmix": 0.5}, "loss": {"name": "focal"}},
    {"schedule": {"name": "cyclic"}, "freeze": {"frozen": ["0."], "unfreeze": {2: ["all"]}}, "precision": "bf16"},
]


@pytest.mark.parametrize("changes", RESUMED, ids=[one["schedule"]["name"] for one in RESUMED])
def test_every_part_of_the_state_is_resumed_to_the_bit(run: Run, tmp_path: Path, changes: dict[str, Any]) -> None:
    def kill(row: dict[str, float]) -> None:
        raise Killed

    run("undisturbed", **changes)
    with pytest.raises(Killed):
        run("killed", on_epoch=kill, **changes)
    run("killed", **changes)
    same_end(tmp_path / "killed", tmp_path / "undisturbed")


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


# bad input ------------------------------------------------------------------------------------------------------------


class Turns(nn.Module):
    """Gives a loss that is not a number, or another failure, after so many photos."""

    def __init__(self, after: int, failure: Exception | None = None) -> None:
        super().__init__()
        self.after, self.seen, self.failure = after, 0, failure
        self.layer = nn.Linear(3, 4)

    def forward(self, photos: Tensor) -> Tensor:
        logits: Tensor = self.layer(photos.mean((2, 3)))
        if self.training:
            self.seen += len(photos)
        if self.seen <= self.after:
            return logits
        if self.failure:
            raise self.failure
        return logits * float("nan")


def test_loss_that_is_no_number_names_the_batch_and_keeps_the_checkpoint_before(run: Run, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"main: the loss of epoch 2, batch 3 is not finite; lower lr \(0\.02\) and train anew with"
    ):
        run(net=Turns(sum(TRAIN.values()) + 12))
    assert torch.load(tmp_path / "model" / "last.pt", weights_only=True)["state"]["epoch"] == 1
    assert read_card(tmp_path / "model").training["epoch"] == 1
    assert all(torch.isfinite(tensor).all() for tensor in last_weights(tmp_path / "model").values())


def test_weights_that_the_last_step_of_an_epoch_breaks_are_not_kept(run: Run, tmp_path: Path) -> None:
    whole = sum(TRAIN.values())
    with pytest.raises(ModelError, match=r"main: the val loss of epoch 1 is not finite; lower lr \(1e\+30\)"):
        run(lr=1e30, batch_size=whole)
    assert not list(tmp_path.glob("model/*"))


@pytest.mark.parametrize(("batch", "processes"), [(2, 4), (7, 4), (64, 14)])
def test_batch_too_small_for_the_processes_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, batch: int, processes: int
) -> None:
    monkeypatch.setattr("pipeline.training.distributed.world", lambda: processes)
    found = min(batch, sum(TRAIN.values()))
    with pytest.raises(ConfigError, match=f"main: batches of {found} photos are too small for {processes} processes"):
        run(batch_size=batch)


@pytest.mark.parametrize(
    "failure",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_out_of_memory_says_which_settings_need_less(run: Run, failure: Exception) -> None:
    with pytest.raises(
        ModelError, match=r"out of memory with batches of 6 photos of 160 px; lower batch_size .*recipe\.size"
    ):
        run(net=Turns(6, failure))


def test_network_that_finds_no_room_on_the_device_is_out_of_memory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Deployable, "to", full)
    with pytest.raises(ModelError, match="out of memory with batches of 6 photos of 160 px; lower batch_size"):
        run()


@pytest.mark.parametrize(
    "said",
    [
        "unable to allocate shared memory(shm) for file </torch_9>: No space left on device (28)",
        "DataLoader worker (pid 9) is killed by signal: Killed. \nTo see more",
    ],
)
def test_memory_of_the_processes_that_load_photos_is_their_number(run: Run, said: str) -> None:
    first = re.escape(said.splitlines()[0])
    with pytest.raises(ModelError, match=rf"no memory or was killed \({first}\); lower workers \(0; 0: none\)"):
        run(net=Turns(6, RuntimeError(said)))


def test_other_failures_of_the_network_are_not_called_out_of_memory(run: Run) -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run(net=Turns(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied")))


def test_label_out_of_range_is_refused(tmp_path: Path, coloured: Path) -> None:
    train_set, val_set = sets(coloured)
    train_set.labels = train_set.labels + 1
    with pytest.raises(
        LabelSpaceError, match="main: the train part has label 4, the model has labels 0 to 3; run dataset_orch"
    ):
        train(tmp_path, network(), CARD, settings(), train_set, val_set)
    train_set.labels = train_set.labels - 2
    with pytest.raises(LabelSpaceError, match="main: the train part has label -1, the model has labels 0 to 3"):
        train(tmp_path, network(), CARD, settings(), train_set, val_set)


def test_labels_that_a_part_lacks_are_told_of(tmp_path: Path, coloured: Path, lines: Callable[[], list[str]]) -> None:
    train_set, val_set = sets(coloured)
    train_set.labels[train_set.labels == 3] = 0
    val_set.labels[val_set.labels >= 2] = 0
    train(tmp_path, network(), CARD, settings(epochs=1, warmup_epochs=0, class_weights="inverse"), train_set, val_set)
    said = lines()
    assert "main: 1 labels have no photo in train and cannot be learnt, e.g. Danaus" in said
    assert "main: 2 labels have no photo in val and count as never found, e.g. Colias" in said
    assert np.isfinite(metrics(tmp_path)["val_loss"]).all()


def test_few_unreadable_photos_are_left_out_and_counted(
    tmp_path: Path, coloured: Path, lines: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    train_set, val_set = sets(coloured)
    (tmp_path / "broken.jpg").write_text("no photo")
    train_set.paths = [*train_set.paths[:-1], tmp_path / "broken.jpg"]
    given = settings(epochs=1, warmup_epochs=0)
    with pytest.raises(DataError, match=r"1 of 26 photos cannot be read, e\.g\. .*broken\.jpg: is no image"):
        train(tmp_path / "strict", network(), CARD, given, train_set, val_set)
    monkeypatch.setattr("pipeline.dataset.verify.MOST_UNREADABLE", 0.05)
    card = train(tmp_path / "model", network(), CARD, given, train_set, val_set)
    assert card.training["unreadable"] == 1
    assert any("1 photos cannot be read and are left out, e.g. " in line for line in lines())


def test_full_disk_leaves_the_last_checkpoint_as_it_was(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(row: dict[str, float]) -> None:
        monkeypatch.setattr("torch.save", full)

    def full(content: Any, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise RuntimeError("[enforce fail at inline_container.cc:700] PytorchStreamWriter failed writing file data/9")

    with pytest.raises(OSError, match=r"last\.pt could not be written, the one before is kept: .*failed writing"):
        run(on_epoch=fill)
    monkeypatch.undo()
    assert torch.load(tmp_path / "model" / "last.pt", weights_only=True)["state"]["epoch"] == 1
    assert not list((tmp_path / "model").glob(".*"))
    run()
    run("undisturbed")
    same_end(tmp_path / "model", tmp_path / "undisturbed")


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
