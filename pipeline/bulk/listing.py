"""The photos of a job: any kind of input becomes one sorted list on disk without duplicates, in parts of one size."""

from __future__ import annotations

import glob
import hashlib
import heapq
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.edge.sources import EXTENSIONS, find, listed
from pipeline.errors import ConfigError, DataError

RUN = 500_000  # paths that are sorted in memory at a time: about 100 MB
OPEN = 200  # sorted files that are merged at a time
SCHEMA = pa.schema([("path", pa.binary())])  # bytes: not every file name is valid text


@dataclass(frozen=True)
class PhotoList:
    """Number of photos, and the digest of their sorted paths (of the names, not of the contents)."""

    photos: int
    sha256: str


def named(given: str, root: Path) -> Iterator[str]:
    """Paths in no particular order: of a folder's photos, of one photo, of a pattern's, or of those that a file names.

    A text file has a path a line; a Parquet table a column `path`, or `image_path`, which is relative to `root`.
    """
    path = Path(given)
    if path.is_dir() or (path.is_file() and path.suffix.lower() in EXTENSIONS):
        return map(str, find([given]))
    if path.is_file():
        return _column(path, root) if path.suffix == ".parquet" else map(str, listed(given))
    if glob.has_magic(given):
        return (name for name in glob.iglob(given, recursive=True) if name.lower().endswith(EXTENSIONS))
    raise ConfigError(
        f"no file or folder {given}; --input takes a folder of photos, a pattern such as 'photos/**/*.jpg', a text file "
        "with a path a line, or a Parquet table with a column path"
    )


def _column(path: Path, root: Path) -> Iterator[str]:
    try:
        table = pq.ParquetFile(path)
        name = next((name for name in ("path", "image_path") if name in table.schema_arrow.names), None)
        if name is None:
            raise DataError(f"{path} has no column path (or image_path); its columns: {table.schema_arrow.names}")
        values = chain.from_iterable(part[0].to_pylist() for part in table.iter_batches(8192, columns=[name]))
        yield from (str(root / value if name == "image_path" else Path(value)) for value in values)
    except (pa.ArrowInvalid, TypeError) as error:
        raise DataError(f"{path} is no Parquet table of paths: {error}") from error


def write_listing(paths: Iterable[str], target: Path, size: int) -> PhotoList:
    """Write the sorted paths, each once, a row group of `size` rows per part; the memory it takes is bounded."""
    scratch = target.with_name(".sorting")
    shutil.rmtree(scratch, ignore_errors=True)  # left behind by a killed run
    scratch.mkdir()
    photos, digest = 0, hashlib.sha256()
    try:
        lines = (line for line, _ in groupby(_sorted(map(_line, paths), scratch)))
        with pq.ParquetWriter(target, SCHEMA, compression="zstd", use_dictionary=False) as writer:
            while part := list(islice(lines, size)):
                digest.update(b"".join(part))
                photos += len(part)
                names = [line[:-1].replace(b"\0", b"\n") for line in part]
                writer.write_table(pa.table([names], SCHEMA), row_group_size=size)
    finally:
        shutil.rmtree(scratch)
    return PhotoList(photos, digest.hexdigest())


def _line(path: str) -> bytes:
    """A line of a file to be sorted; a newline within a name is written as NUL, which no name can contain."""
    name = os.fsencode(path)
    if b"\0" in name:
        raise DataError(
            f"a path in --input holds a NUL byte ({path[:40]!r}); it must be a text file with a path a line"
        )
    return name.replace(b"\n", b"\0") + b"\n"


def _sorted(lines: Iterator[bytes], scratch: Path) -> Iterator[bytes]:
    """External merge sort."""
    runs = [_keep(scratch / f"{i}", sorted(part)) for i, part in enumerate(iter(lambda: list(islice(lines, RUN)), []))]
    while len(runs) > OPEN:
        merged = _keep(scratch / f"{runs[0].name}+", heapq.merge(*map(_read, runs[:OPEN])))
        for run in runs[:OPEN]:
            run.unlink()
        runs = [*runs[OPEN:], merged]
    return heapq.merge(*map(_read, runs))


def _keep(path: Path, lines: Iterable[bytes]) -> Path:
    with path.open("wb") as file:
        file.writelines(lines)
    return path


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def read_part(listing: pq.ParquetFile, index: int) -> list[str]:
    """The paths of one part, in order."""
    return [os.fsdecode(name) for name in listing.read_row_group(index)["path"].to_pylist()]
