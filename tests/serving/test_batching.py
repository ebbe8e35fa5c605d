"""Gathered calls give the very answers that single ones give."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from toy import COLOURS, write_model

from pipeline.edge.cascade import load_cascade
from pipeline.edge.errors import BundleError
from pipeline.edge.model import Model
from pipeline.serving.batching import Batched, batched, same_in_batches

RNG = np.random.default_rng(0)
PHOTOS = RNG.integers(0, 256, (40, 1, 32, 32, 3), np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(write_model(tmp_path / "model.onnx", COLOURS))


def ask(model: Model, threads: int = 8) -> list[np.ndarray]:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(model.logits, PHOTOS))


def test_the_same_bits_and_fewer_calls(model: Model) -> None:
    gathered, sizes = Batched(model, 4, 0.2, lambda: 4), []
    gathered.sizes = sizes.append
    assert np.array_equal(ask(gathered), [model.logits(photo) for photo in PHOTOS])
    assert sum(sizes) == 40
    assert max(sizes) == 4
    assert len(sizes) < 20


def test_a_photo_alone_does_not_wait(model: Model) -> None:
    gathered = Batched(model, 4, 60, lambda: 1)
    start = time.monotonic()
    gathered.logits(PHOTOS[0])
    assert time.monotonic() - start < 10


def test_a_batch_that_does_not_fill_goes_after_its_wait(model: Model) -> None:
    gathered = Batched(model, 4, 0.05, lambda: 4)
    start = time.monotonic()
    gathered.logits(PHOTOS[0])
    assert 0.05 <= time.monotonic() - start < 10


def test_a_failure_is_told_to_all_who_asked_and_the_next_are_answered(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered, real, told = Batched(model, 2, 0.2, lambda: 2), model.logits, threading.Event()

    def once(photos: np.ndarray) -> np.ndarray:
        if not told.is_set():
            raise BundleError("broken")
        return real(photos)

    monkeypatch.setattr(model, "logits", once)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(gathered.logits, photo) for photo in PHOTOS[:2]]
        for one in asked:
            with pytest.raises(BundleError, match="broken"):
                one.result()
    told.set()
    assert np.array_equal(gathered.logits(PHOTOS[0]), real(PHOTOS[0]))


def test_a_network_that_answers_otherwise_in_batches_is_asked_one_by_one(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Model.logits
    monkeypatch.setattr(Model, "logits", lambda self, photos: real(self, photos) + 1e-6 * len(photos))
    cascade = batched(load_cascade(packed), 4, 0.0, lambda: 4)
    assert not any(isinstance(stage.model, Batched) for stage in cascade.stages)
    monkeypatch.undo()
    cascade = batched(load_cascade(packed), 4, 0.0, lambda: 4)
    assert all(isinstance(stage.model, Batched) for stage in cascade.stages)


def test_a_network_of_one_photo_a_call(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx", COLOURS)
    network = onnx.load(path)
    network.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(network, path)
    assert not same_in_batches(Model(path), 4)
