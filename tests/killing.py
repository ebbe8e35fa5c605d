"""Work done in a child process, which may be killed with SIGKILL at a chosen one of its steps."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOMENTS = 20
EVENTS = frozenset(
    ["open", "os.rename", "os.link", "os.symlink", "os.remove", "os.mkdir", "os.utime", "os.chmod", "socket.connect"]
)  # the steps: audit events on files and sockets
LONGEST = 300  # seconds until a child that hangs is ended


def child(work: Callable[[], object]) -> int:
    """Do the work in a forked process; its wait status, 0 where the work ended well."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(LONGEST)
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def killed_at(moment: int, work: Callable[[], object]) -> bool:
    """Do the work in a child that is killed just before its n-th step; whether it came that far."""

    def kill(step: int) -> None:
        if step == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    status = child(lambda: (_watch(kill), work()))
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def moments_of(work: Callable[[], object]) -> list[int]:
    """Up to MOMENTS of the steps of the whole work, which is done in a child to count them."""
    reading, writing = os.pipe()

    def count() -> None:
        steps = 0

        def note(step: int) -> None:
            nonlocal steps
            steps = step

        _watch(note)
        work()
        os.write(writing, str(steps).encode())

    assert child(count) == 0
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        steps = int(pipe.read())
    return sorted({1 + k * steps // MOMENTS for k in range(MOMENTS)})


def _watch(each: Callable[[int], None]) -> None:
    """Call `each` with 1, 2, ... at the steps of this process, for as long as it lives."""
    steps = 0

    def hook(event: str, _: Any) -> None:
        nonlocal steps
        if event in EVENTS:
            steps += 1
            each(steps)

    sys.addaudithook(hook)


def files(*roots: Path) -> dict[str, bytes]:
    """All files below the roots, those left out that only remember what is up to date."""
    found = [path for root in roots for path in sorted(root.rglob("*")) if path.is_file()]
    return {str(path): path.read_bytes() for path in found if ".stamps" not in path.parts}
