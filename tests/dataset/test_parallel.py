"""Work in several processes: in order, and neither a lost worker nor a lost parent leaves a riddle behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.dataset.parallel import mapped
from pipeline.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
ORPHANS = """
import os, time
from pipeline.dataset.parallel import mapped

def work(item):
    os.write(1, f"{os.getpid()}\\n".encode())
    time.sleep(100)

list(mapped(work, range(400), 2))
"""


def double(number: int) -> int:
    return 2 * number


def die_at_300(number: int) -> int:
    if number == 300:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_come_in_order() -> None:
    assert list(mapped(double, range(1000), 2)) == [2 * n for n in range(1000)]


def test_a_worker_that_dies_is_told_with_what_helps() -> None:
    with pytest.raises(
        DataError, match=r"died at one of the items 1 to 1000; if memory is short, lower dataset\.workers"
    ):
        list(mapped(die_at_300, range(1000), 2))


def test_workers_end_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHANS], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        workers = {int(parent.stdout.readline()) for _ in range(2)}
        assert len(workers) == 2
        parent.kill()
    deadline = time.monotonic() + 60
    while any(_runs(pid) for pid in workers):
        assert time.monotonic() < deadline, "workers are left"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
