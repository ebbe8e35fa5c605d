"""Predict any number of photos with the cascade of an experiment, or with one of its models."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.bulk.engines import local, ray_tasks
from pipeline.bulk.job import Job, begin
from pipeline.bulk.listing import named
from pipeline.bulk.work import Part, System, answer, sessions
from pipeline.config import Config
from pipeline.console import Facts, log, progress
from pipeline.deploy.answering import place
from pipeline.errors import DataError
from pipeline.files import sha256


@dataclass(frozen=True)
class Request:
    """Options of one prediction job; see the help of predict.py. workers: none: one per core."""

    photos: str
    out: Path
    model: str | None = None
    precision: str | None = None
    topk: int = 5
    part_size: int = 1000
    engine: str = "local"
    workers: int | None = None
    address: str | None = None
    retry_failed: bool = False


def predict_photos(config: Config, request: Request) -> Facts:
    """Answer the photos that have no answer yet, or those that failed; returns how many there are, how many failed in
    all, and where the answers are."""
    system = _system(config, request)
    described = _described(system)
    with begin(request.out, named(request.photos, config.paths.dst_dataset), request.part_size, described) as job:
        missing = job.missing()
        if request.retry_failed:
            if missing:
                raise DataError(
                    f"{len(missing)} of {job.parts} parts of {job.folder} are missing; run it without --retry-failed first"
                )
            todo = list(job.failed())
            parts, total = job.read_failed(todo), len(todo)
        else:
            parts, total = job.read(missing), len(missing)
        _answer(job, system, parts, total, request)
        failed = sum(job.failed().values())
    log.info("predict   %d photos, %d failed: %s", job.photos, failed, job.folder / "answers")
    return {"photos": job.photos, "failed": failed, "answers": job.folder / "answers"}


def _answer(job: Job, system: System, parts: Iterator[Part], total: int, request: Request) -> None:
    if not total:
        log.info("predict   up to date: %s", job.folder)
        return
    work = partial(answer, system)
    if request.engine == "ray":
        answered = ray_tasks(work, parts, request.workers, request.address)
    else:
        answered = local(work, parts, request.workers or os.cpu_count() or 1)
    photos, start = 0, time.monotonic()
    for index, rows in progress(answered, total, "predict, parts"):
        job.write(index, rows)
        photos += len(rows)
    log.info("predict   %d photos looked at, %.1f a second", photos, photos / (time.monotonic() - start))


def _system(config: Config, request: Request) -> System:
    """The named exported model, or the cascade of the experiment's bundle."""
    where = place(config, request.model, request.precision)
    described = where if request.model else where / "cascade.json"
    return System(str(where), request.model or "", sha256(described), request.topk, os.getcwd())


def _described(system: System) -> dict[str, Any]:
    """The job's record of its system, which is loaded here first so that its errors come at once."""
    labels = {stage.name: list(stage.labels) for stage in sessions(system).stages}
    return {"model": system.model or "cascade", "model_sha256": system.sha256, "topk": system.topk, "labels": labels}
