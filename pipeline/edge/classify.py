"""The command line of the bundle: classify photos."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from .errors import BundleError
from .sources import EXTENSIONS, camera, find, listed, settled, state, watched

EXAMPLES = """examples:
  classify.py photos/ --topk 3 --out results.csv      the same command continues after a stop
  classify.py --list paths.txt --out results.jsonl    paths from a file, - for stdin
  classify.py --watch incoming/ --out results.csv     photos as they come, until Ctrl-C
  classify.py --camera shots/ --every 60 --out results.csv
  classify.py doctor                                  test this device and the bundle"""


def main(folder: Path, arguments: list[str] | None = None, remote: Any = None) -> int:
    """Classify photos with the bundle in `folder`; exit code 0 done, 1 failed, 2 wrong usage, 3 some photos failed.

    remote: stands in for `results` where --main names a server; the bundle's launcher knows it.
    """
    given = _parse(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names that the terminal cannot show
    try:
        if given.photos == ["doctor"]:
            from .doctor import doctor

            return doctor(folder, given.threads)
        return _classify(folder, given, remote)
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
    parser = argparse.ArgumentParser(prog="classify.py", description="Classify photos.", epilog=EXAMPLES)
    parser.formatter_class, add = argparse.RawDescriptionHelpFormatter, parser.add_argument
    add("photos", nargs="*", metavar="IMAGE|FOLDER", help="photos, folders of them, or the word doctor")
    add("--list", metavar="FILE", help="text file with a path a line; - reads stdin")
    add("--watch", action="store_true", help="keep looking for new photos in the folders")
    add("--camera", type=Path, metavar="FOLDER", help="take photos with the Pi's camera into FOLDER")
    add("--every", type=float, default=2.0, metavar="SECONDS", help="of --watch, --camera (default 2)")
    add("--out", type=Path, help="results file: .csv or .jsonl (default: lines on the terminal)")
    add("--topk", type=int, default=5, help="number of candidates per photo (default 5)")
    add("--threads", type=int, default=min(4, os.cpu_count() or 1), help="cores to use (default: up to 4)")
    add("--lazy", action="store_true", help="load each model at its first use, to save memory")
    add("--benchmark", action="store_true", help="also print p50 and p95 of each step, and memory")
    add("--main", metavar="URL", help="send what no cache answers to this server (serve.py); needs --out")
    add("--budget", type=float, default=1024.0, metavar="MB", help="disk space for waiting photos (default 1024)")
    add("--drop", choices=("newest", "oldest", "least-certain"), default="newest", help="when it is used up")
    given = parser.parse_args(arguments)
    if given.out and given.out.suffix not in (".csv", ".jsonl"):
        parser.error(f"--out must end in .csv or .jsonl, not {given.out.name!r}")
    if given.topk < 1 or given.threads < 1 or not given.every > 0:
        parser.error("--topk and --threads must be at least 1, --every above 0")
    if bool(given.photos) + bool(given.list) + bool(given.camera) != 1:
        parser.error("name photos or folders (IMAGE|FOLDER), or --list, or --camera: one of them")
    if missing := [p for p in (*given.photos, given.camera or ".") if p != "doctor" and not Path(p).exists()]:
        parser.error(f"no such file or folder: {missing[0]}")
    return given


def _photos(given: argparse.Namespace) -> Iterator[Path]:
    if given.camera:  # after the shots that a power cut left without a row
        return chain(find([str(given.camera)] if given.out else []), camera(given.camera, given.every))
    if given.list:
        return listed(given.list)
    return watched(given.photos, given.every) if given.watch else find(given.photos)


def _classify(folder: Path, given: argparse.Namespace, remote: Any) -> int:
    from .cascade import Answer, load_cascade
    from .doctor import times
    from .results import key, results

    sends = given.main is not None
    cascade, photos, kept = load_cascade(folder, given.threads, given.lazy or sends), _photos(given), []
    first = list(islice(photos, 0 if sends else 1))  # what waits for main is sent even if no photo is left
    if not (first or sends):
        raise BundleError(f"no photos ({', '.join(EXTENSIONS)}) in {', '.join(given.photos) or given.list}")
    rows = remote(folder, given, cascade, results, key, Answer) if sends else results(given.out)
    with rows as (done, write, told):
        before = f", {len(done)} were there before, {told['failed before']} of them failed" if done else ""
        for path in chain(first, photos):
            if (mine := key(str(path))) in done:
                continue
            answer = cascade.classify(path, given.topk)
            if given.watch and answer.status == "failed" and not settled(state(path)):
                continue  # an upload that stalls
            write(answer)
            done.add(mine)
            if given.benchmark and answer.status == "ok":
                kept.append(answer)
    if given.out:
        print(f"{told['ok'] + told['failed']} photos, {told['failed']} failed{before}: {given.out}")
    if kept:
        print(times(kept))
    return 3 if sum(told.values()) > told["ok"] else 0
