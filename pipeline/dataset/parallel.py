"""Map a function over items in several processes; results do not depend on the number of processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from pipeline.console import end_with_parent, leave_interrupts
from pipeline.errors import DataError

T = TypeVar("T")
R = TypeVar("R")
FEW = 200  # photos: not worth starting processes
BATCH = 4096  # items whose results may be in memory at a time


def mapped(work: Callable[[T], R], items: Sequence[T], workers: int, few: int = FEW, chunk: int = 64) -> Iterator[R]:
    """work(item) of each item, in order, by `workers` processes (0: every core), `chunk` items a message."""
    workers = min(workers or os.cpu_count() or 1, len(items))
    if workers <= 1 or len(items) < few:
        yield from map(work, items)
        return
    with ProcessPoolExecutor(workers, initializer=_begin) as pool:
        for start in range(0, len(items), BATCH):
            batch = items[start : start + BATCH]
            try:
                yield from pool.map(work, batch, chunksize=chunk)
            except BrokenProcessPool as error:
                raise DataError(
                    f"a worker process died at one of the items {start + 1} to {start + len(batch)}; if memory is short, "
                    "lower dataset.workers; the same command goes on"
                ) from error


def _begin() -> None:
    leave_interrupts()
    end_with_parent()
