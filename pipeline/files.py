"""Safe files: atomic writing, JSON, CSV and Parquet, hashes, stamps that tell what is up to date, and locks."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pipeline.console import log
from pipeline.edge.labels import sha256 as sha256
from pipeline.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

METADATA = "ommatidia"  # key in the metadata of our Parquet files


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there takes the name `path` only when the block succeeds.

    Whoever writes the same file meanwhile waits. What a killed process left behind has the same temporary name, and is
    written over.
    """
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    with alone(temporary):
        try:
            os.truncate(temporary, 0)
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Hold the lock of the file `path`, which is made where it is not there; gives whether another held it before.

    The lock ends with the process that holds it. On a file system that knows no locks nothing is held.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    waited = False
    while True:
        with path.open("ab") as file:
            try:
                flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB, path)
            except BlockingIOError:
                waited = True
                log.info("waiting for another process that holds %s", path)
                flock(file, fcntl.LOCK_EX, path)
            if _stands(file, path):  # who held it may have given the file another name
                try:
                    yield waited
                finally:
                    flock(file, fcntl.LOCK_UN, path)  # closing it is not enough where a process was forked meanwhile
                return


def flock(file: IO[Any], operation: int, path: Path) -> None:
    """fcntl.flock of an open file; on a file system that knows no locks nothing is held, and --verbose says so."""
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        raise
    except OSError as error:
        log.debug("%s cannot be locked (%s); start one process at a time here", path, error.strerror)


def _stands(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def write_text(path: Path, text: str) -> None:
    """Write a text file safely."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Write JSON safely, indented, UTF-8, in the order given."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table safely, for people and spreadsheets: six digits, no index."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table safely, for the next step: exact, no index."""
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def write_arrow(path: Path, table: pa.Table, metadata: Mapping[str, Any]) -> None:
    """Write an Arrow table as Parquet safely; `metadata` goes into the file as JSON, see `read_arrow`."""
    import pyarrow.parquet as pq  # slow to import

    with replacing(path) as temporary:
        pq.write_table(table.replace_schema_metadata({METADATA: json.dumps(metadata, ensure_ascii=False)}), temporary)


@contextmanager
def read_arrow(path: Path, wrong: str) -> Iterator[tuple[pq.ParquetFile, dict[str, Any]]]:
    """A file of `write_arrow` and its metadata. What the block does not find in them is a DataError: the path, then
    `wrong`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file, json.loads(file.metadata.metadata[METADATA.encode()])
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} {wrong}") from error


def read_json(path: Path, what: str) -> Any:
    """Read JSON; a missing or broken file is a DataError that says what it should have been."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"no {what} at {path}") from error
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read as the {what}: {error}") from error


def nfc(name: str) -> str:
    """Unicode NFC: accents as one character, whatever the file system or list uses; names are compared in this form."""
    return unicodedata.normalize("NFC", name)


def safe_name(name: str) -> str:
    """A name from outside made safe as ONE path component: no separators, "..", control characters; <= 150 bytes."""
    clean = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]', "_", nfc(name)).strip(" .")
    clean = clean.encode()[:150].decode(errors="ignore").rstrip(" .")
    return clean or "_"


def digest(data: Any) -> str:
    """Twelve hexadecimal digits of any JSON-able value; the same value gives the same digits on every machine."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def listing_digest(root: Path, files: Sequence[Path]) -> str:
    """Digest of names, sizes and modification times: detects that a photo was added, removed or changed."""
    rows = [(str(f.relative_to(root)), (s := f.stat()).st_size, s.st_mtime_ns) for f in files]
    return digest(rows)


class Stamp:
    """Remembers with which inputs a piece of work was done, so that the same work is skipped the next time.

    The stamp is removed before the work starts and written after it ends, so a killed piece of work is done again.
    """

    def __init__(self, path: Path, inputs: Mapping[str, Any], outputs: Sequence[Path]) -> None:
        self.path, self.inputs = path, digest(inputs)
        alike = len({output.name for output in outputs}) < len(outputs)  # same names in several folders
        self.outputs = {os.path.relpath(p, path.parent) if alike else p.name: p for p in outputs}

    def fresh(self) -> bool:
        """Whether the outputs exist and were made from exactly these inputs."""
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        if known.get("inputs") != self.inputs or set(known.get("outputs", {})) != set(self.outputs):
            return False
        return all(p.is_file() and known["outputs"][name] == sha256(p) for name, p in self.outputs.items())

    def clear(self) -> None:
        """Forget, before the work starts."""
        self.path.unlink(missing_ok=True)

    def write(self) -> None:
        """Remember, after the work ended."""
        write_json(self.path, {"inputs": self.inputs, "outputs": {name: sha256(p) for name, p in self.outputs.items()}})


def run_once(
    what: str, stamp: Stamp, again: bool, work: Callable[[], None], intact: Callable[[], bool] = lambda: True
) -> None:
    """Do the work unless its stamp is fresh (and it is not asked for again); says so when it is skipped.

    intact: whether side effects outside the stamp's outputs are still present. A process that starts the same work while
    another one does it waits, then skips it.
    """

    def fresh() -> bool:
        return not again and stamp.fresh() and intact()

    if not fresh():
        with alone(stamp.path.with_suffix(".lock")) as waited:
            if not (waited and fresh()):
                stamp.clear()
                work()
                stamp.write()
                return
    log.info("%s up to date", what)
