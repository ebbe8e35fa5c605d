"""From bytes to answers: a bounded queue and a pool of threads that share the networks."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pipeline.edge.cascade import Answer, Cascade
from pipeline.listening import FORMATS
from pipeline.serving.batching import batched
from pipeline.serving.limits import Limits


class Full(Exception):
    """The queue has no room for these photos; `seconds`: for Retry-After."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the queue is full; ask again in {seconds} s")
        self.seconds = seconds


class Engine:
    """Answers photos with a cascade. `admitted`: photos that wait or are in work, never more than limits.queue."""

    def __init__(self, cascade: Cascade, limits: Limits) -> None:
        self.limits, self.admitted, self.max_pixels = limits, 0, int(limits.megapixels * 1e6)
        self.workers = max(limits.batch, os.cpu_count() or 1)
        self.cascade = batched(cascade, limits.batch, limits.wait_ms / 1000, lambda: min(self.admitted, self.workers))
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="photo")
        self._seconds = 0.0  # time per photo: moving mean

    async def classify(self, photos: Sequence[bytes], topk: int) -> list[Answer]:
        """Answers in order; raises Full when they do not all fit into the queue."""
        if self.admitted + len(photos) > self.limits.queue:
            raise Full(max(1, math.ceil(self.admitted * self._seconds / self.workers)))
        self.admitted += len(photos)
        return list(await asyncio.gather(*(self._one(photo, topk) for photo in photos)))

    async def _one(self, photo: bytes, topk: int) -> Answer:
        look = partial(self.cascade.classify, "", topk, photo, max_pixels=self.max_pixels, formats=FORMATS)
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._pool, look)
        finally:
            self.admitted -= 1
        self._seconds += (answer.ms / 1000 - self._seconds) / 16
        return answer
