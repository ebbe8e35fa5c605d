"""Parts are answered once each, also when those who answer them die."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from pipeline.bulk.engines import DIED, local, ray_tasks
from pipeline.bulk.work import Part, given_up
from pipeline.errors import ModelError

PARTS = [Part(i, [f"{i}.jpg"]) for i in range(12)]


def work(scratch: Path, deaths: int, part: Part) -> tuple[int, pa.Table]:
    """Dies at part 3, so many times."""
    if part.index == 3 and len(list(scratch.iterdir())) < deaths:
        (scratch / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return part.index, pa.table({"path": part.paths, "pid": [os.getpid()]})


def wrong(part: Part) -> tuple[int, pa.Table]:
    raise ModelError(f"cannot answer {part.paths[0]}")


def test_a_lost_worker_costs_no_part_and_doubles_none(tmp_path: Path) -> None:
    found = list(local(partial(work, tmp_path, 1), iter(PARTS), 2))
    assert sorted(index for index, _ in found) == list(range(12))
    assert len(list(tmp_path.iterdir())) == 1
    assert os.getpid() not in {rows["pid"][0].as_py() for _, rows in found}


def rows(part: Part) -> tuple[int, pa.Table]:
    """Dies at the photo of this name, whenever it is asked."""
    if "deadly.jpg" in part.paths:
        os.kill(os.getpid(), signal.SIGKILL)
    return part.index, pa.concat_tables([given_up(path, "answered") for path in part.paths])


def test_a_photo_at_which_workers_die_is_a_failed_row_and_the_others_are_answered() -> None:
    parts = [Part(0, ["a.jpg", "deadly.jpg", "c.jpg"]), *(Part(i, [f"{i}.jpg"]) for i in range(1, 6))]
    found = {index: table.to_pylist() for index, table in local(rows, iter(parts), 2)}
    assert sorted(found) == list(range(6))
    assert [(row["path"], row["failures"]) for row in found[0]] == [
        ("a.jpg", ["answered"]), ("deadly.jpg", [DIED]), ("c.jpg", ["answered"]),
    ]  # fmt: skip
    assert found[0][1]["status"] == "failed"
    assert {row["failures"][0] for i in range(1, 6) for row in found[i]} == {"answered"}


class Lost(Exception):
    """As Ray tells of a worker or node that is lost."""


class Ray:
    """Stands in for the module: a task with the deadly photo is lost whenever it is got."""

    exceptions = SimpleNamespace(RayError=Lost, RayTaskError=ModelError)

    def remote(self, **_: Any) -> Any:
        return lambda call: task

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2}

    def wait(self, running: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        return running[:num_returns], running[num_returns:]

    def get(self, asked: tuple[Any, Part]) -> tuple[int, pa.Table]:
        if "deadly.jpg" in asked[1].paths:
            raise Lost
        return rows(asked[1])


task = SimpleNamespace(remote=lambda *asked: asked, options=lambda **_: task)


def test_of_tasks_that_are_lost_each_photo_is_asked_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.bulk.engines.cluster", lambda *_: nullcontext(Ray()))
    parts = [Part(0, ("a.jpg", "deadly.jpg")), Part(1, ("b.jpg",))]
    found = {index: table.to_pylist() for index, table in ray_tasks(rows, iter(parts), None, None)}
    assert [row["failures"] for row in found[0]] == [["answered"], [DIED]]
    assert [row["failures"] for row in found[1]] == [["answered"]]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_work_stops_it(workers: int) -> None:
    with pytest.raises(ModelError, match=r"cannot answer \d"):
        list(local(wrong, iter(PARTS), workers))
