"""Work done in a child process, which may be killed with SIGKILL at a chosen one of its steps; scripts ended by Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
INTERRUPTED = "interrupted; what is finished is kept, the same command goes on from there\n"
MOMENTS = 20
EVENTS = frozenset(
    ["open", "os.rename", "os.link", "os.symlink", "os.remove", "os.mkdir", "os.utime", "os.chmod", "socket.connect"]
)  # audit events on files and sockets
LONGEST = 300  # seconds until a child that hangs is ended
Kind = Callable[[str, tuple[Any, ...]], bool]  # whether an audit event, by its name and arguments, is a step


def _any(event: str, _: tuple[Any, ...]) -> bool:
    return event in EVENTS


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


def killed_at(moment: int, work: Callable[[], object], is_step: Kind = _any) -> bool:
    """Do the work in a child that is killed just before its n-th step; whether it came that far."""

    def kill(step: int) -> None:
        if step == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    status = child(lambda: (_watch(kill, is_step), work()))
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def moments_of(work: Callable[[], object]) -> list[int]:
    """Up to MOMENTS of the steps of the whole work, which is done in a child to count them."""
    steps = steps_of(work)
    return sorted({1 + k * steps // MOMENTS for k in range(MOMENTS)})


def steps_of(work: Callable[[], object], is_step: Kind = _any) -> int:
    """How many steps the whole work takes, which is done in a child to count them."""
    reading, writing = os.pipe()

    def count() -> None:
        steps = 0

        def note(step: int) -> None:
            nonlocal steps
            steps = step

        _watch(note, is_step)
        work()
        os.write(writing, str(steps).encode())

    assert child(count) == 0
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        return int(pipe.read())


def _watch(each: Callable[[int], None], is_step: Kind) -> None:
    """Call `each` with 1, 2, ... at the steps of this process, for as long as it lives."""
    steps = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal steps
        if is_step(event, arguments):
            steps += 1
            each(steps)

    sys.addaudithook(hook)


def files(*roots: Path) -> dict[str, bytes]:
    """All files below the roots, those left out that only remember what is up to date."""
    found = [path for root in roots for path in sorted(root.rglob("*")) if path.is_file()]
    return {str(path): path.read_bytes() for path in found if ".stamps" not in path.parts}


def begun(*words: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.Popen[str]:
    """A script of the project as a terminal begins it: Ctrl-C reaches it, and all processes that it begins."""
    ignored = signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # what a shell starts in the background ignores it, and hands that on
    try:
        return subprocess.Popen(
            [sys.executable, *map(str, words)], cwd=cwd, env={**os.environ, **environment}, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, ignored)


def ctrl_c(running: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Press it; the exit code, and what was said on stdout and stderr and not read before."""
    os.killpg(running.pid, signal.SIGINT)
    out, error = running.communicate(timeout=LONGEST)
    return running.returncode, out, error
