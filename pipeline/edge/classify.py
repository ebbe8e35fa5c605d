"""The command of the bundle: name the species on photos."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Protocol

from .errors import BundleError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
COLUMNS = (
    "path", "status", "failures", "species", "score", "stage", "topk", "decode_ms", "preprocess_ms", "infer_ms",
)  # fmt: skip


class Writer(Protocol):
    def __call__(self, row: dict[str, Any]) -> None: ...


def main(folder: Path, arguments: list[str] | None = None) -> int:
    """Classify photos with the bundle in `folder`; exit code 0 done, 1 failed, 2 wrong usage, 3 some photos failed."""
    given = _parse(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names that the terminal cannot show
    try:
        return _classify(folder, given)
    except BrokenPipeError:  # the reader of the lines went away, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ModuleNotFoundError as error:
        print(f"error: {error}; run: pip install -r requirements.txt", file=sys.stderr)
    except (BundleError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 1


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="classify.py",
        description="Name the species on photos, offline.",
        epilog="example: classify.py photos/ --topk 3 --out results.csv",
    )
    parser.add_argument(
        "photos", nargs="+", metavar="IMAGE|FOLDER", help="photos, or folders that are searched for them"
    )
    parser.add_argument("--topk", type=int, default=5, help="how many candidates to tell (default 5)")
    parser.add_argument("--out", type=Path, help="results file: .csv or .jsonl (default: lines on the terminal)")
    parser.add_argument(
        "--threads", type=int, default=min(4, os.cpu_count() or 1), help="cores to use (default: up to 4)"
    )
    given = parser.parse_args(arguments)
    if given.out and given.out.suffix not in (".csv", ".jsonl"):
        parser.error(f"--out must end in .csv or .jsonl, not {given.out.name!r}")
    if given.topk < 1 or given.threads < 1:
        parser.error("--topk and --threads must be at least 1")
    if missing := [path for path in given.photos if not Path(path).exists()]:
        parser.error(f"no such file or folder: {missing[0]}")
    return given


def _classify(folder: Path, given: argparse.Namespace) -> int:
    from .cascade import load_cascade

    cascade = load_cascade(folder, given.threads)
    paths = list(find(given.photos))
    if not paths:
        print(f"error: no photos ({', '.join(EXTENSIONS)}) in {', '.join(given.photos)}", file=sys.stderr)
        return 1
    failed = 0
    with results(given.out) as write:
        for path in paths:
            answer = cascade.classify(path, given.topk)
            failed += answer.status != "ok"
            write(asdict(answer))
    if given.out:
        print(f"{len(paths)} photos, {failed} failed: {given.out}")
    return 3 if failed else 0


def find(given: list[str]) -> Iterator[Path]:
    """Files as they are named, folders searched in sorted order for photos that are not hidden."""
    for name in given:
        path = Path(name)
        if not path.is_dir():
            yield path
            continue
        for folder, below, files in os.walk(path, onerror=_raise):
            below[:] = sorted(name for name in below if not name.startswith("."))
            yield from (Path(folder, name) for name in sorted(files) if _is_photo(name))


def _is_photo(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")  # Macs leave a ._photo.jpg beside photo.jpg


def _raise(error: OSError) -> None:
    raise error  # os.walk would leave a folder out that it may not read


@contextmanager
def results(path: Path | None) -> Iterator[Writer]:
    """Something to call with each row; a file takes its name when all rows are written (until then it ends in .part)."""
    if path is None:
        yield lambda row: print(_line(row), flush=True)
        return
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        yield _csv(file) if path.suffix == ".csv" else _jsonl(file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _line(row: dict[str, Any]) -> str:
    if row["status"] != "ok":
        return f"{row['path']}: {row['status']}: {'; '.join(row['failures'])}"
    ms = row["decode_ms"] + row["preprocess_ms"] + sum(row["infer_ms"].values())
    return f"{row['path']}: {row['species']} {row['score']:.1%} ({row['stage']}, {ms:.1f} ms)"


def _jsonl(file: IO[str]) -> Writer:
    def write(row: dict[str, Any]) -> None:
        file.write(json.dumps(_rounded(row), ensure_ascii=False) + "\n")
        file.flush()

    return write


def _csv(file: IO[str]) -> Writer:
    rows = csv.DictWriter(file, COLUMNS)
    rows.writeheader()

    def write(row: dict[str, Any]) -> None:
        flat = _rounded(row)
        flat["failures"] = "; ".join(flat["failures"])
        flat["topk"] = "; ".join(f"{name}={score}" for name, score in flat["topk"])
        flat["infer_ms"] = "; ".join(f"{name}={ms}" for name, ms in flat["infer_ms"].items())
        rows.writerow(flat)
        file.flush()

    return write


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "score": round(row["score"], 4),
        "topk": [(name, round(score, 4)) for name, score in row["topk"]],
        "decode_ms": round(row["decode_ms"], 3),
        "preprocess_ms": round(row["preprocess_ms"], 3),
        "infer_ms": {name: round(ms, 3) for name, ms in row["infer_ms"].items()},
    }
