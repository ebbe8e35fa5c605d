"""A training can be killed anywhere without a trace; what it left for going on is checked first."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import ModelError
from pipeline.models.checkpoint import is_intact, read_card

from .conftest import (
    CARD,
    Constant,
    Killed,
    Run,
    kill_after,
    metrics,
    network,
    same_end,
)


@pytest.mark.parametrize(("epochs_before", "ema"), [(1, 0.0), (2, 0.0), (1, 0.9)])
def test_killed_training_goes_on_and_ends_the_same_to_the_bit(
    run: Run, tmp_path: Path, epochs_before: int, ema: float
) -> None:
    run("undisturbed", ema=ema)
    with pytest.raises(Killed):
        run("killed", on_epoch=kill_after(epochs_before), ema=ema)
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
    still: dict[str, Any] = {"epochs": 3, "lr": 1e-12, "weight_decay": 0}  # so that no later epoch is better
    with pytest.raises(Killed):
        run(net=Constant(1, 0, 0, 0), on_epoch=kill_after(1), **still)
    folder = tmp_path / "model"
    save_file({"of": torch.ones(1)}, folder / "weights.safetensors")  # where a GPU's next epoch would not end the same
    run(net=Constant(1, 0, 0, 0), **still)
    assert read_card(folder).training["epoch"] == 2
    assert is_intact(folder, read_card(folder))


def test_killed_training_with_workers_and_dropout_ends_the_same(run: Run, tmp_path: Path) -> None:
    run("undisturbed", epochs=2, workers=1)
    with pytest.raises(Killed):
        run("killed", on_epoch=kill_after(1), epochs=2, workers=1)
    run("killed", epochs=2, workers=1)
    same_end(tmp_path / "killed", tmp_path / "undisturbed")


RESUMED: list[dict[str, Any]] = [
    {"schedule": {"name": "one_cycle"}, "optimizer": {"name": "sgd", "lr_factors": {"0.": 0.1}}},
    {"schedule": {"name": "plateau", "arguments": {"patience": 0}}, "optimizer": {"name": "adam", "clip_norm": 1.0}},
    {"schedule": {"name": "multi_step"}, "optimizer": {"accumulate": 2}, "sampler": "balanced"},
    {"schedule": {"name": "warm_restarts"}, "mix": {"mixup": 0.5, "cutmix": 0.5}, "loss": {"name": "focal"}},
    {"schedule": {"name": "cyclic"}, "freeze": {"frozen": ["0."], "unfreeze": {2: ["all"]}}, "precision": "bf16"},
]


@pytest.mark.parametrize("changes", RESUMED, ids=[one["schedule"]["name"] for one in RESUMED])
def test_every_part_of_the_state_is_resumed_to_the_bit(run: Run, tmp_path: Path, changes: dict[str, Any]) -> None:
    run("undisturbed", **changes)
    with pytest.raises(Killed):
        run("killed", on_epoch=kill_after(1), **changes)
    run("killed", **changes)
    same_end(tmp_path / "killed", tmp_path / "undisturbed")


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


def test_full_disk_leaves_the_last_checkpoint_as_it_was(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
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
