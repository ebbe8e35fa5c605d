"""The command of the bundle: name the species on photos."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from .errors import BundleError
from .sources import EXTENSIONS, camera, find, listed, watched

EXAMPLES = """examples:
  classify.py photos/ --topk 3 --out results.csv      again: goes on where it was stopped
  classify.py --list paths.txt --out results.jsonl    paths from a file, - for stdin
  classify.py --watch incoming/ --out results.csv     photos as they come, until Ctrl-C
  classify.py --camera shots/ --every 60 --out results.csv
  classify.py doctor                                  is this device fit, does the bundle answer as it should?"""


def main(folder: Path, arguments: list[str] | None = None) -> int:
    """Classify photos with the bundle in `folder`; exit code 0 done, 1 failed, 2 wrong usage, 3 some photos failed."""
    given = _parse(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names that the terminal cannot show
    try:
        if given.photos == ["doctor"]:
            from .doctor import doctor

            return doctor(folder, given.threads)
        return _classify(folder, given)
    except BrokenPipeError:  # the reader of the lines went away, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ModuleNotFoundError as error:
        print(f"error: {error}; run: pip install -r requirements.txt", file=sys.stderr)
    except (BundleError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 1


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="classify.py",
        description="Name the species on photos, offline.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("photos", nargs="*", metavar="IMAGE|FOLDER", help="photos, folders of them, or the word doctor")
    parser.add_argument("--list", metavar="FILE", help="text file with a path a line; - reads stdin")
    parser.add_argument("--watch", action="store_true", help="look at the folders again and again for new photos")
    parser.add_argument("--camera", type=Path, metavar="FOLDER", help="take photos with the Pi's camera into FOLDER")
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="of --watch, --camera (default 2)")
    parser.add_argument("--out", type=Path, help="results file: .csv or .jsonl (default: lines on the terminal)")
    parser.add_argument("--topk", type=int, default=5, help="how many candidates to tell (default 5)")
    cores = min(4, os.cpu_count() or 1)
    parser.add_argument("--threads", type=int, default=cores, help="cores to use (default: up to 4)")
    parser.add_argument("--lazy", action="store_true", help="load each model when it is first asked, to save memory")
    parser.add_argument("--benchmark", action="store_true", help="also tell p50 and p95 of each step, and the memory")
    given = parser.parse_args(arguments)
    if given.out and given.out.suffix not in (".csv", ".jsonl"):
        parser.error(f"--out must end in .csv or .jsonl, not {given.out.name!r}")
    if given.topk < 1 or given.threads < 1 or not given.every > 0:
        parser.error("--topk and --threads must be at least 1, --every above 0")
    if bool(given.photos) + bool(given.list) + bool(given.camera) != 1:
        parser.error("name photos or folders (IMAGE|FOLDER), or --list, or --camera: one of them")
    if missing := [path for path in given.photos if path != "doctor" and not Path(path).exists()]:
        parser.error(f"no such file or folder: {missing[0]}")
    return given


def _photos(given: argparse.Namespace) -> Iterator[Path]:
    if given.camera:
        return camera(given.camera, given.every)
    if given.list:
        return listed(given.list)
    return watched(given.photos, given.every) if given.watch else find(given.photos)


def _classify(folder: Path, given: argparse.Namespace) -> int:
    from .cascade import load_cascade
    from .doctor import times
    from .results import key, results

    cascade = load_cascade(folder, given.threads, given.lazy)
    photos, answered, failed, kept = _photos(given), 0, 0, []
    if (first := next(photos, None)) is None:
        print(f"error: no photos ({', '.join(EXTENSIONS)}) in {', '.join(given.photos) or given.list}", file=sys.stderr)
        return 1
    with results(given.out) as (done, write):
        before = len(done)
        for path in chain([first], photos):
            if (mine := key(str(path))) in done:
                continue
            answer = cascade.classify(path, given.topk)
            write(answer)
            done.add(mine)
            answered, failed = answered + 1, failed + (answer.status != "ok")
            if given.benchmark and answer.status == "ok":
                kept.append(answer)
    if given.out:
        told = f", {before} were there before" if before else ""
        print(f"{answered} photos, {failed} failed{told}: {given.out}")
    if kept:
        print(times(kept))
    return 3 if failed else 0
