"""From bytes to answers: a bounded queue and a pool of threads that share the networks."""

from __future__ import annotations

import asyncio
import io
import math
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from PIL import Image

from pipeline.edge.cascade import Answer, Cascade
from pipeline.listening import FORMATS
from pipeline.serving.batching import batched
from pipeline.serving.limits import Limits

# Pillow's blocks of pixels: larger than 32 MB, glibc gives each back to the system when it is freed; smaller ones would stay
# with the thread that decoded, so that the threads together keep what only two large photos need at a time
Image.core.set_block_size(64 << 20)  # type: ignore[attr-defined]


class Full(Exception):
    """The queue has no room for these photos; `seconds`: for Retry-After."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the queue is full; ask again in {seconds} s")
        self.seconds = seconds


class Turns:
    """Photos are decoded as long as all in work have at most `total` pixels; nobody passes the one whose turn is next."""

    def __init__(self, total: int) -> None:
        self.total, self.free = total, total
        self._next, self._freed = threading.Lock(), threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Waits until there is room; one photo of more than all pixels has them to itself."""
        pixels = min(pixels, self.total)
        with self._next, self._freed:
            self._freed.wait_for(lambda: self.free >= pixels)
            self.free -= pixels
        try:
            yield
        finally:
            with self._freed:
                self.free += pixels
                self._freed.notify()


def pixels_of(photo: bytes) -> int:
    """Width times height, of the head alone; 0 where that is none, of which nothing is decoded either."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the engine's own limit counts
            with Image.open(io.BytesIO(photo), formats=FORMATS) as image:
                return image.width * image.height
    except Exception:  # noqa: BLE001  # Pillow raises many kinds; `decode` meets the same one, and its answer says why
        return 0


class Engine:
    """Answers photos with a cascade. `admitted`: photos that wait or are in work, never more than limits.queue."""

    def __init__(self, cascade: Cascade, limits: Limits) -> None:
        self.limits, self.admitted, self.max_pixels = limits, 0, int(limits.megapixels * 1e6)
        self.workers = max(limits.batch, os.cpu_count() or 1)
        self.cascade = batched(cascade, limits.batch, limits.wait_ms / 1000, lambda: min(self.admitted, self.workers))
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="photo")
        self.turns = Turns(2 * self.max_pixels)
        self._seconds = 0.0  # time per photo: moving mean

    async def classify(self, photos: Sequence[bytes], topk: int) -> list[Answer]:
        """Answers in order; raises Full when they do not all fit into the queue."""
        if self.admitted + len(photos) > self.limits.queue:
            raise Full(max(1, math.ceil(self.admitted * self._seconds / self.workers)))
        self.admitted += len(photos)
        return list(await asyncio.gather(*(self._one(photo, topk) for photo in photos)))

    async def _one(self, photo: bytes, topk: int) -> Answer:
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._pool, self._look, photo, topk)
        finally:
            self.admitted -= 1
        self._seconds += (answer.ms / 1000 - self._seconds) / 16
        return answer

    def _look(self, photo: bytes, topk: int) -> Answer:
        with self.turns.taken(pixels_of(photo)):
            return self.cascade.classify("", topk, photo, max_pixels=self.max_pixels, formats=FORMATS)
