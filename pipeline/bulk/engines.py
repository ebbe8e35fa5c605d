"""Engines that run the parts of a job: processes of this machine, or tasks on a Ray cluster. Either yields each part once.

A part whose worker or node is lost is handed out again, and at last photo by photo, so that one photo at which workers die is
a failed row and stops no job. Only the process that asked gets the rows and writes them, so what a lost worker did before is
never seen twice.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any

import pyarrow as pa

from pipeline.bulk.work import Part, given_up
from pipeline.cluster import cluster
from pipeline.console import end_with_parent, log, starting_workers

Work = Callable[[Part], tuple[int, pa.Table]]
AHEAD = 2  # parts submitted per worker, so that no worker idles
LOST = 10  # retries of a part whose worker or node was lost
DIED = "the process that looked at it died"


def local(work: Work, parts: Iterable[Part], workers: int) -> Iterator[tuple[int, pa.Table]]:
    """Processes of this machine; one worker is this process itself."""
    if workers == 1:
        yield from map(work, parts)
        return
    todo, held = iter(parts), dict[int, Part]()  # held: submitted, not finished
    progress = True
    while True:
        pool = _pool(workers)
        try:
            running = {_submit(pool, work, part) for part in held.values()}
            while True:
                for part in islice(todo, AHEAD * workers - len(running)):
                    held[part.index] = part
                    running.add(_submit(pool, work, part))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    index, rows = future.result()
                    del held[index]
                    progress = True
                    yield index, rows
        except BrokenProcessPool:
            log.warning(
                "predict   a worker died; the photos that it had are asked again%s", "" if progress else ", singly"
            )
            if not progress:
                yield from (_singly(work, part) for part in held.values())
                held.clear()
            progress = not progress
        finally:
            pool.shutdown(cancel_futures=True)


def _singly(work: Work, part: Part) -> tuple[int, pa.Table]:
    """A part at which workers died twice: one worker, photo by photo; one at which that worker dies is a failed row."""
    rows: list[pa.Table] = []
    while len(rows) < len(part.paths):
        with _pool(1) as pool:
            try:
                for path in part.paths[len(rows) :]:
                    rows.append(_submit(pool, work, Part(part.index, [path])).result()[1])
            except BrokenProcessPool:
                rows.append(given_up(part.paths[len(rows)], DIED))
    return part.index, pa.concat_tables(rows)


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)


def _submit(pool: ProcessPoolExecutor, work: Work, part: Part) -> Future[tuple[int, pa.Table]]:
    with starting_workers():  # a pool starts them as it gets work
        return pool.submit(work, part)


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
            except ray.exceptions.RayError:
                log.warning(
                    "predict   workers or nodes were lost %d times at the same photos; they are asked singly", LOST
                )
                yield part.index, pa.concat_tables([_alone(ray, task, work, part.index, path) for path in part.paths])


def _alone(ray: Any, task: Any, work: Work, index: int, path: str) -> pa.Table:
    """The row of one photo; one at which its worker dies is a failed row."""
    try:
        return ray.get(task.options(max_retries=1).remote(work, Part(index, [path])))[1]
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError:
        return given_up(path, DIED)


def _call(work: Work, part: Part) -> tuple[int, pa.Table]:
    return work(part)


def _begin() -> None:
    """A worker ends with the process that began it, also when that one is killed or interrupted."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_with_parent()
