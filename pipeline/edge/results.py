"""The results file, appended row by row; after a kill or a power cut the same command continues where it ends."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from .cascade import Answer
from .errors import BundleError

COLUMNS = tuple(Answer.__dataclass_fields__)
csv.field_size_limit(2**31 - 1)  # candidates of thousands of species fill a cell beyond its 131,072 characters
SYNC = 1.0  # rows of at most this many seconds are lost in a power cut; those photos are classified again


def key(path: str) -> str:
    """A photo's path as every kind of results file can hold it."""
    return path.encode(errors="backslashreplace").decode().replace("\r", r"\r").replace("\n", r"\n")


@contextmanager
def results(path: Path | None) -> Iterator[tuple[set[str], Callable[[Answer], None], dict[str, int]]]:
    """Keys of the photos that have a row already; something to call with each new answer (None: prints lines); and how
    many answers of which status it was called with, and how many rows had failed before."""
    told = {"ok": 0, "failed": 0, "failed before": 0}
    if path is None:
        yield set(), lambda answer: print(_line(answer, told), flush=True), told
        return
    table, synced = path.suffix == ".csv", time.monotonic()
    with path.open("ab+") as file:
        done, told["failed before"] = _begin(file, path, table)

        def write(answer: Answer) -> None:
            nonlocal synced
            told[answer.status] += 1
            row = _cells(answer) if table else json.dumps(rounded(answer), ensure_ascii=False) + "\n"
            file.write(row.encode(errors="backslashreplace"))
            file.flush()
            if time.monotonic() - synced > SYNC:
                os.fsync(file.fileno())
                synced = time.monotonic()

        if table and not file.tell():
            file.write(_csv(COLUMNS).encode())
        try:
            yield done, write, told
        finally:
            file.flush()
            os.fsync(file.fileno())


def _begin(file: IO[bytes], path: Path, table: bool) -> tuple[set[str], int]:
    """Lock the file and cut off an unfinished last line; keys of the rows, and how many had failed, without holding the
    file in memory. A file that holds no results is left untouched (BundleError)."""
    with suppress(ImportError, OSError):  # Windows, and file systems without locks
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BundleError(f"another classify.py writes {path}; wait for it, or give another --out") from error
    begin = (_csv(COLUMNS).strip() if table else '{"path": ').encode()
    done, failed, whole = set(), 0, 0
    file.seek(0)
    try:
        for line in file:
            start = line.strip(b"\0")[: len(begin)]
            if not whole and start != begin[: len(start)]:
                raise ValueError("another beginning")
            if b"\0" in line or not line.endswith(b"\n"):  # a power cut may leave zeros
                break
            if whole or not table:
                row = next(csv.DictReader([line.decode()], COLUMNS), {}) if table else json.loads(line)
                done.add(key(row["path"]))
                failed += row["status"] == "failed"
            whole += len(line)
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise BundleError(f"{path} holds something else than results ({error}); give another --out") from error
    file.truncate(whole)
    file.seek(whole)
    return done, failed


def _line(answer: Answer, told: dict[str, int]) -> str:
    told[answer.status] += 1
    if answer.status != "ok":
        return f"{answer.path}: {answer.status}: {'; '.join(answer.failures)}"
    return f"{answer.path}: {answer.species} {answer.score:.1%} ({answer.stage}, {answer.ms:.1f} ms)"


def _cells(answer: Answer) -> str:
    row = rounded(answer)
    row["failures"] = "; ".join(row["failures"])
    row["topk"] = "; ".join(f"{name}={score}" for name, score in row["topk"])
    row["infer_ms"] = "; ".join(f"{name}={ms}" for name, ms in row["infer_ms"].items())
    return _csv(key(str(value)) for value in row.values())


def _csv(cells: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def rounded(answer: Answer) -> dict[str, Any]:
    """A row of COLUMNS in plain types, as every kind of results file holds it."""
    row = asdict(answer)
    row["score"], row["topk"] = round(answer.score, 4), [(name, round(score, 4)) for name, score in answer.topk]
    row["infer_ms"] = {name: round(ms, 3) for name, ms in answer.infer_ms.items()}
    return row | {name: round(row[name], 3) for name in ("decode_ms", "preprocess_ms")}
