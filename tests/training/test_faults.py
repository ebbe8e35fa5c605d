"""What can go wrong in a training is told with its remedy, and nothing that was learnt before is lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError, DataError, LabelSpaceError, ModelError
from pipeline.models.checkpoint import read_card
from pipeline.models.deployable import Deployable
from pipeline.training.epoch import _check_losses
from pipeline.training.loop import train

from .conftest import (
    CARD,
    TRAIN,
    Constant,
    Run,
    last_weights,
    metrics,
    network,
    sets,
    settings,
)


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


def test_exploding_loss_stops_and_names_lr(run: Run, tmp_path: Path) -> None:
    message = r"main: the loss of epoch [12], batch \d is not finite; lower lr \(1e\+30\)"
    with pytest.raises(ModelError, match=message):
        run(net=nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 9), nn.Linear(9, 4)), lr=1e30, warmup_epochs=0)
    with pytest.raises(ModelError, match=r"epoch 1, batch 1 is not finite; lower lr \(0\.02\)"):
        run("nan", net=Constant(float("nan"), 0, 0, 0))
    assert not (tmp_path / "nan").exists()


def test_loss_that_is_no_number_names_the_batch_and_keeps_the_checkpoint_before(run: Run, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"main: the loss of epoch 2, batch 3 is not finite; lower lr \(0\.02\) and train anew with"
    ):
        run(net=Turns(sum(TRAIN.values()) + 12))
    assert torch.load(tmp_path / "model" / "last.pt", weights_only=True)["state"]["epoch"] == 1
    assert read_card(tmp_path / "model").training["epoch"] == 1
    assert all(torch.isfinite(tensor).all() for tensor in last_weights(tmp_path / "model").values())


def test_losses_that_are_looked_at_later_name_the_first_batch() -> None:
    _check_losses(torch.tensor([1.0, 2.0]), "the loss", settings())
    with pytest.raises(ModelError, match="the loss, batch 2 is not finite; lower lr"):
        _check_losses(torch.tensor([1.0, float("inf"), float("nan"), 2.0]), "the loss", settings())


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
