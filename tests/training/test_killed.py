"""A training killed at any moment, and called again, ends bit for bit as one that was left alone; on a CPU."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from killing import child, files, killed_at, steps_of

from pipeline.config import Config
from pipeline.models.checkpoint import read_card
from pipeline.training.loop import METRICS
from pipeline.training.run import train_role

from .conftest import TRAIN, VAL

Toy = Callable[..., Config]
PHOTOS, JUDGED = sum(TRAIN.values()), sum(VAL.values())
EPOCHS = 2


def changes_a_file(event: str, arguments: tuple[Any, ...]) -> bool:
    """Every file takes its name by a rename; all that was done before stands then, and the file itself does not."""
    return event == "os.rename" or (event == "os.remove" and Path(arguments[0]).name == "last.pt")


def reads_a_photo(event: str, arguments: tuple[Any, ...]) -> bool:
    return event == "open" and str(arguments[0]).endswith(".jpg")


class Training:
    """One that is done in children, and what it leaves."""

    def __init__(self, config: Config) -> None:
        self.config, self.places = config, (config.models, config.dataset_dir / "packed")

    def train(self) -> None:
        torch.set_num_threads(1)  # those of the parent are not there in a fork
        train_role(self.config, "main")

    def left(self) -> tuple[dict[str, bytes], str]:
        """All files, and the metrics without the seconds."""
        found = files(*self.places)
        metrics = self.config.models / "main" / METRICS
        assert found.pop(str(metrics))
        return found, pd.read_csv(metrics).drop(columns="seconds").to_csv()

    def forget(self) -> None:
        for place in self.places:
            shutil.rmtree(place, ignore_errors=True)

    def ends_the_same(self, moment: int, is_step: Callable[..., bool], undisturbed: object) -> None:
        self.forget()
        assert killed_at(moment, self.train, is_step)
        assert child(self.train) == 0
        assert self.left() == undisturbed, moment


@pytest.fixture
def training(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Training]:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def make(*overrides: str) -> Training:
        return Training(toy(f"main.epochs={EPOCHS}", "main.seed=3", *overrides))

    return make


def test_before_each_file_that_is_written(training: Callable[..., Training], tmp_path: Path) -> None:
    """The second epoch's model, the better one, takes the place of the first's."""
    killed = training("main.packed=32", "main.monitor=loss")
    steps = steps_of(killed.train, changes_a_file)
    undisturbed = killed.left()
    assert steps == 4 + EPOCHS * 4 + 2  # two packed files and their stamps; weights, card, metrics, last.pt; the end
    assert read_card(killed.config.models / "main").training["epoch"] == EPOCHS
    for moment in range(1, steps + 1):
        killed.ends_the_same(moment, changes_a_file, undisturbed)
    assert not [path for path in tmp_path.rglob("*.tmp*")]


@pytest.mark.parametrize("packed", [0, 32])
def test_while_photos_are_learnt_from_judged_by_or_packed(training: Callable[..., Training], packed: int) -> None:
    killed = training(f"main.packed={packed}")
    steps = steps_of(killed.train, reads_a_photo)
    undisturbed = killed.left()
    assert steps == (1 if packed else EPOCHS) * (PHOTOS + JUDGED)
    second = PHOTOS + JUDGED  # where the second epoch starts
    first_batch, in_between, val = second + 1, second + PHOTOS // 2, second + PHOTOS + JUDGED // 2
    for moment in (1, PHOTOS + 1) if packed else (first_batch, in_between, val):
        killed.ends_the_same(moment, reads_a_photo, undisturbed)
