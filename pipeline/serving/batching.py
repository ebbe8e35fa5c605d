"""Dynamic batching: photos from several threads go through a network in one call."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from pipeline.console import log
from pipeline.edge.cascade import Cascade, Stage
from pipeline.edge.model import Model

Photos = NDArray[np.uint8]
Logits = NDArray[np.float32]


class Batched(Model):
    """A model with batched calls; replaces `Model` in a stage, so that the cascade is unchanged.

    A call waits at most `wait` seconds for others, and only while `busy()` tells of more photos than are gathered.
    """

    def __init__(self, model: Model, size: int, wait: float, busy: Callable[[], int]) -> None:
        vars(self).update(vars(model))
        self.model = model
        self.size, self.wait, self.busy = size, wait, busy
        self.sizes: Callable[[int], None] = lambda size: None
        self._asked: queue.SimpleQueue[tuple[Photos, Future[Logits]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def logits(self, photos: Photos) -> Logits:
        """(n, size, size, 3) uint8 RGB -> (n, labels), equal to those of the model itself."""
        answer: Future[Logits] = Future()
        self._asked.put((photos, answer))
        return answer.result()

    def _gather(self) -> list[tuple[Photos, Future[Logits]]]:
        gathered = [self._asked.get()]
        until = time.monotonic() + self.wait
        while len(gathered) < self.size:
            left = until - time.monotonic() if self.busy() > len(gathered) else 0.0
            try:
                gathered.append(self._asked.get(timeout=left) if left > 0 else self._asked.get_nowait())
            except queue.Empty:
                break
        return gathered

    def _work(self) -> None:
        while True:
            gathered = self._gather()
            try:
                logits = self.model.logits(np.concatenate([photos for photos, _ in gathered]))
            except Exception as error:  # noqa: BLE001  # belongs to those who asked
                for _, answer in gathered:
                    answer.set_exception(error)
                continue
            self.sizes(len(gathered))
            start = 0
            for photos, answer in gathered:
                answer.set_result(logits[start : start + len(photos)])
                start += len(photos)


def same_in_batches(model: Model, size: int) -> bool:
    """Whether the network takes `size` photos at once with bit-identical results for each."""
    if isinstance(model.session.get_inputs()[0].shape[0], int):
        return False
    side = model.recipe.size
    photos = np.random.default_rng(0).integers(0, 256, (size, side, side, 3), np.uint8)
    alone = np.concatenate([model.logits(photo[None]) for photo in photos])
    return all(
        np.array_equal(np.concatenate([model.logits(photos[i : i + n]) for i in range(0, size, n)]), alone)
        for n in range(2, size + 1)
    )


def batched(cascade: Cascade, size: int, wait: float, busy: Callable[[], int]) -> Cascade:
    """The same cascade with batched calls, for each model where that changes no answer."""
    stages: list[Stage] = []
    for stage in cascade.stages:
        if size > 1 and same_in_batches(stage.model, size):
            gathered = Batched(stage.model, size, wait, busy)
            stage = Stage.of(stage.name, gathered, stage.rule)
        elif size > 1:
            log.info("serve     %s is asked photo by photo: in batches its answers would differ", stage.name)
        stages.append(stage)
    return Cascade(stages)
