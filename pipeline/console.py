"""What all scripts share on the command line: arguments, exit codes, log lines, progress."""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipeline.edge.errors import BundleError
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.config import Config

T = TypeVar("T")
DONE, FAILED, WRONG_USAGE, SOME_FAILED = 0, 1, 2, 3
SHIPPED = Path(__file__).with_name("scripts")  # in an installed package: the scripts, and the example configurations
EXIT_CODES = "exit codes: 0 done, 1 failed, 2 wrong usage or config, 3 done but some items failed"
log = logging.getLogger("ommatidia")


def parser(description: str, examples: str) -> argparse.ArgumentParser:
    """The arguments that every script takes; add the script's own ones to it."""
    result = argparse.ArgumentParser(
        description=description,
        epilog=f"examples:\n{examples}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--config", type=Path, default=Path("config.yaml"), help="YAML file (default: config.yaml)")
    result.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides", help="override; repeatable"
    )
    result.add_argument("--verbose", action="store_true", help="more lines, and tracebacks")
    return result


def configuration(arguments: argparse.Namespace) -> Config:
    """The resolved configuration of a script's arguments."""
    from pipeline.config import load_config  # not at import: --help must answer at once

    overrides = [*arguments.overrides, *(["global.verbose=true"] if arguments.verbose else [])]
    path, shipped = arguments.config, SHIPPED / arguments.config
    if not path.exists() and shipped.exists():
        log.info("no %s here; taking the one that came with the package", path)
        path = shipped
    config = load_config(path, overrides)
    if config.global_.verbose:
        log.setLevel(logging.DEBUG)
    return config


def run(work: Callable[[argparse.Namespace], int | None], arguments: argparse.Namespace) -> int:
    """Do the work of a script; its errors become one sentence on stderr and an exit code."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)  # of libraries: warnings only
    log.setLevel(logging.DEBUG if arguments.verbose else logging.INFO)  # configuration() heeds global.verbose too
    try:
        return work(arguments) or DONE
    except PipelineError as error:
        if log.isEnabledFor(logging.DEBUG):
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except OSError as error:  # disk full, no permission: the system's words name the file
        if log.isEnabledFor(logging.DEBUG):
            traceback.print_exc()
        print(f"error: {error.strerror}: {error.filename}" if error.filename else f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 130


def progress(items: Iterable[T], total: int, title: str, every: float = 30.0) -> Iterator[T]:
    """Show a bar on a terminal, and a plain line every `every` seconds elsewhere."""
    if sys.stderr.isatty():
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
