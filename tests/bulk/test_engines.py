"""Parts are answered once each, also when those who answer them die."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.bulk.engines import local
from pipeline.bulk.work import Part
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


def test_photos_at_which_workers_die_again_and_again_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"died again before a part was answered, at one of \d parts from \d.jpg on"):
        list(local(partial(work, tmp_path, 99), iter(PARTS), 2))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_work_stops_it(workers: int) -> None:
    with pytest.raises(ModelError, match=r"cannot answer \d"):
        list(local(wrong, iter(PARTS), workers))
