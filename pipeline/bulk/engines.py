"""Who answers the parts: processes of this machine, or tasks on a Ray cluster. Either gives each part once, as it is done.

A part whose worker or node is lost is handed out again. Only the process that asked gets the rows and writes them, so what
a lost worker did before is never seen twice.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any

import pyarrow as pa

from pipeline.bulk.work import Part
from pipeline.cluster import cluster
from pipeline.console import end_with_parent, log
from pipeline.errors import ModelError

Work = Callable[[Part], tuple[int, pa.Table]]
AHEAD = 2  # parts handed out per worker, so that none waits for the next
LOST = 10  # how often Ray tries a part again whose worker or node is lost


def local(work: Work, parts: Iterable[Part], workers: int) -> Iterator[tuple[int, pa.Table]]:
    """Processes of this machine; one worker is this process itself."""
    if workers == 1:
        yield from map(work, parts)
        return
    todo, held = iter(parts), dict[int, Part]()  # held: handed out, not answered
    progress = True
    while True:
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)
        try:
            running = {pool.submit(work, part) for part in held.values()}
            while True:
                for part in islice(todo, AHEAD * workers - len(running)):
                    held[part.index] = part
                    running.add(pool.submit(work, part))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    index, rows = future.result()
                    del held[index]
                    progress = True
                    yield index, rows
        except BrokenProcessPool as error:
            if not progress:
                raise ModelError(
                    f"a worker died again before a part was answered, at one of {len(held)} parts from "
                    f"{held[min(held)].paths[0]} on; if memory is short, the same command goes on with fewer --workers"
                ) from error
            progress = False
            log.warning("predict   a worker died; the photos that it had are asked again")
        finally:
            pool.shutdown(cancel_futures=True)


def ray_tasks(
    work: Work, parts: Iterable[Part], workers: int | None, address: str | None
) -> Iterator[tuple[int, pa.Table]]:
    """Ray tasks of one core each, as many as the cluster has cores (or `workers`); sessions stay in Ray's worker processes.

    Plain tasks and not Ray Data: it names the files that it writes itself, so that a continued job could not tell what is
    there, and its actors come back only where their cores are free, so a job on a cluster that shrank may wait for ever. A
    task that is lost with its node runs again on any other.
    """
    todo = iter(parts)
    with cluster(address, workers) as ray:
        task = ray.remote(num_cpus=1, max_retries=LOST)(_call)
        running: dict[Any, Part] = {}
        while True:
            most = workers if workers and address else AHEAD * int(ray.cluster_resources().get("CPU", 1))
            for part in islice(todo, max(0, most - len(running))):
                running[task.remote(work, part)] = part
            if not running:
                return
            [done], _ = ray.wait(list(running), num_returns=1)
            part = running.pop(done)
            try:
                yield ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                raise ModelError(
                    f"workers or nodes were lost {LOST} times at the same photos, first {part.paths[0]}; the same command goes on"
                ) from error


def _call(work: Work, part: Part) -> tuple[int, pa.Table]:
    return work(part)


def _begin() -> None:
    """A worker ends with the process that began it, also when that one is killed or interrupted."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()
