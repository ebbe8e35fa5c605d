"""Command line of all scripts: common arguments, exit codes, log lines, progress."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from pipeline.edge.errors import BundleError
from pipeline.errors import PipelineError, did_you_mean

if TYPE_CHECKING:
    from pipeline.config import Config

T = TypeVar("T")
Facts = Mapping[
    str, Any
]  # what a command leaves: paths, figures, "failed" (how many items did), "next" (the next command)
DONE, FAILED, WRONG_USAGE, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 130
SHIPPED = Path(__file__).with_name("scripts")  # in an installed package: the scripts, and the example configurations
EXIT_CODES = "exit codes: 0 done, 1 failed, 2 wrong usage or config, 3 done but some items failed"
log = logging.getLogger("ommatidia")


class _Parser(argparse.ArgumentParser):
    """Also answers the shell that asks what could be typed next (argcomplete), and names what was nearly typed."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        if "_ARGCOMPLETE" in os.environ:
            import argcomplete

            argcomplete.autocomplete(self)  # ends the process
        given, unknown = self.parse_known_args(args, namespace)
        if unknown:
            hint = did_you_mean(unknown[0].partition("=")[0], self._option_string_actions, "see --help")
            self.error(f"unrecognized arguments: {' '.join(unknown)}; {hint}")
        return given


def parser(description: str, examples: str) -> argparse.ArgumentParser:
    """A parser with the arguments common to all scripts; the script adds its own."""
    result = _Parser(
        description=description,
        epilog=f"examples:\n{examples}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--config", type=Path, default=Path("config.yaml"), help="YAML file (default: config.yaml)")
    result.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides", help="override; repeatable"
    )
    lines = result.add_mutually_exclusive_group()
    lines.add_argument("--verbose", action="store_true", help="more log lines, and tracebacks")
    lines.add_argument("--quiet", action="store_true", help="only warnings and errors")
    result.add_argument("--json", action="store_true", help="print one JSON object on stdout at the end, for programs")
    return result


def configuration(arguments: argparse.Namespace) -> Config:
    """The resolved configuration of a script's arguments."""
    from pipeline.config import load_config  # not at import: --help must answer at once

    asked = [f"global.verbose={arguments.verbose}".lower()] if arguments.verbose or arguments.quiet else []
    overrides = [*arguments.overrides, *asked]
    path, shipped = arguments.config, SHIPPED / arguments.config
    if not path.exists() and shipped.exists():
        log.info("no %s here; taking the one that came with the package", path)
        path = shipped
    config = load_config(path, overrides)
    if config.global_.verbose:
        log.setLevel(logging.DEBUG)
    if config.global_.log_dir and os.environ.get("RANK", "0") == "0":
        _write_to(config.global_.log_dir)
    return config


def _write_to(folder: Path) -> None:
    """What is said from here on, in a file too, until run() ends."""
    folder.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(
        folder / time.strftime("log_%Y-%m-%d_%H-%M-%S.txt"), encoding="utf-8", errors="backslashreplace"
    )
    file.setFormatter(logging.Formatter("[%(levelname)s] %(message)s"))
    log.addHandler(file)


def _files() -> list[logging.Handler]:
    return [handler for handler in log.handlers if isinstance(handler, logging.FileHandler)]


def run(work: Callable[[argparse.Namespace], Facts | int | None], arguments: argparse.Namespace) -> int:
    """Do the work of a script; its errors become one sentence on stderr and an exit code.

    work gives the exit code or the facts that --json tells: then the code is SOME_FAILED where "failed" is not 0. What a
    program waits for before the end, work gives to arguments.tell.
    """
    out = (
        sys.stdout if arguments.json and os.environ.get("RANK", "0") == "0" else None
    )  # of torchrun's processes the first
    arguments.tell = partial(_tell, out)
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)  # libraries: warnings only
    # configuration() applies global.verbose later
    log.setLevel(logging.DEBUG if arguments.verbose else logging.WARNING if arguments.quiet else logging.INFO)
    start = time.monotonic()
    facts: Facts = {}
    error: str | None = None
    try:
        with contextlib.redirect_stdout(sys.stderr if arguments.json else sys.stdout):
            found = work(arguments)
        facts = found if isinstance(found, Mapping) else {}
        code = found if isinstance(found, int) else SOME_FAILED if facts.get("failed") else DONE
        if "next" in facts and sys.stderr.isatty():
            log.info("next: %s", facts["next"])
    except (PipelineError, BundleError, OSError) as problem:
        if log.isEnabledFor(logging.DEBUG):
            traceback.print_exc()
        code, error = getattr(problem, "exit_code", FAILED), _sentence(problem)
        print(f"error: {error}", file=sys.stderr)
        for file in _files():
            file.handle(log.makeRecord(log.name, logging.ERROR, "", 0, error, (), None))
    except KeyboardInterrupt:
        code, error = INTERRUPTED, "interrupted; what is finished is kept, the same command goes on from there"
        print(error, file=sys.stderr)
    finally:
        for file in _files():
            log.removeHandler(file)
            file.close()
    _tell(out, {"exit_code": code, "seconds": round(time.monotonic() - start, 3), "error": error, **facts})
    return code


def _tell(out: TextIO | None, facts: Facts) -> None:
    if out:
        print(json.dumps(facts, default=str), file=out, flush=True)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:  # disk full, no permission: the system's words name the file
        return f"{error.strerror}: {error.filename}"
    return str(error)


@contextlib.contextmanager
def starting_workers() -> Iterator[None]:
    """Around what starts worker processes that are not forks: Ctrl-C waits, and in them until leave_interrupts() or what else
    they begin with. While they import it would be a traceback of each."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_interrupts() -> None:
    """To begin a worker process with: Ctrl-C, which every process of the terminal gets, is answered by the first one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def end_with_parent() -> None:
    """To begin a worker process with: it ends with the process that began it, also when that one is killed."""
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    from multiprocessing import parent_process  # at hand in a worker; commands start faster without it

    parent = parent_process()
    assert parent
    parent.join()
    os._exit(1)


def progress(items: Iterable[T], total: int, title: str, every: float = 30.0) -> Iterator[T]:
    """Show a bar on a terminal, and a plain line every `every` seconds elsewhere."""
    if sys.stderr.isatty() and log.isEnabledFor(logging.INFO):
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=title, leave=False, dynamic_ncols=True)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        if (now := time.monotonic()) - last > every:
            last = now
            left = (now - start) / done * (total - done)
            log.info("%s: %d of %d, about %.0f s left", title, done, total, left)
