"""The folder of a prediction job: the listing, the job's description, one Parquet file per finished part; resumable."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.bulk.listing import PhotoList, read_part, write_listing
from pipeline.bulk.work import SCHEMA, Part
from pipeline.edge.sources import EXTENSIONS
from pipeline.errors import DataError
from pipeline.files import flock, read_arrow, read_json, replacing, write_arrow, write_json

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Job:
    """Photos in parts of one size, and the folder of their answers."""

    folder: Path
    photos: int
    size: int

    @property
    def parts(self) -> int:
        return -(-self.photos // self.size)

    def file(self, index: int) -> Path:
        """The answers of a part."""
        return self.folder / "answers" / f"part-{index:08}.parquet"

    def missing(self) -> list[int]:
        """Parts without answers."""
        there = {entry.name for entry in os.scandir(self.folder / "answers")}
        return [index for index in range(self.parts) if self.file(index).name not in there]

    def read(self, indexes: list[int]) -> Iterator[Part]:
        """Parts with all their photos."""
        listing = pq.ParquetFile(_listing(self.folder))
        return (Part(index, read_part(listing, index)) for index in indexes)

    def failed(self) -> dict[int, int]:
        """Number of failed photos by part, for parts that have any."""
        counts = {i: _failed(self.file(i)) for i in range(self.parts) if self.file(i).exists()}
        return {index: n for index, n in counts.items() if n}

    def read_failed(self, indexes: list[int]) -> Iterator[Part]:
        """Parts with only their failed photos."""
        for part in self.read(indexes):
            yield Part(part.index, [part.paths[i] for i in _where_failed(pq.read_table(self.file(part.index)))])

    def write(self, index: int, rows: pa.Table) -> None:
        """Store the answers of a part; rows of retried photos replace the failed ones."""
        if self.file(index).exists():
            known = pq.read_table(self.file(index), schema=SCHEMA).to_pylist()
            for i, row in zip(_where_failed(pa.Table.from_pylist(known, SCHEMA)), rows.to_pylist(), strict=True):
                known[i] = row
            rows = pa.Table.from_pylist(known, SCHEMA)
        write_arrow(self.file(index), rows, {"format_version": FORMAT_VERSION, "failed": len(_where_failed(rows))})


@contextmanager
def begin(folder: Path, paths: Iterator[str], size: int, system: dict[str, Any]) -> Iterator[Job]:
    """Begin or resume a job; photos, models or a part size other than at its beginning are refused.

    system: what answers, as JSON. Nobody else may write to the folder meanwhile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, folder)
        except BlockingIOError as error:
            raise DataError(f"another process writes to {folder}; wait for it, or give another --out") from error
        with replacing(_listing(folder)) as temporary:
            found = write_listing(paths, temporary, size)
            if not found.photos:
                raise DataError(f"--input names no photos ({', '.join(EXTENSIONS)})")
            _same(folder / "job.json", found, size, system)
        (folder / "answers").mkdir(exist_ok=True)
        yield Job(folder, found.photos, size)


def _listing(folder: Path) -> Path:
    return folder / "photos.parquet"


def _same(path: Path, found: PhotoList, size: int, system: dict[str, Any]) -> None:
    """Write the job's description, or compare with the one that exists."""
    new = {"format_version": FORMAT_VERSION, **asdict(found), "part_size": size, **system}
    if not path.exists():
        write_json(path, new)
        return
    known = read_json(path, "description of the job")
    if any(known.get(name) != value for name, value in asdict(found).items()):
        raise DataError(
            f"{path.parent} holds answers for other photos than --input names now (then {known.get('photos')}, now "
            f"{found.photos}); give another --out"
        )
    for name, value in new.items():
        if name != "labels" and known.get(name) != value:
            raise DataError(
                f"{path.parent} was begun with {name} {known.get(name)}, now it is {value}; give another --out"
            )


def _failed(path: Path) -> int:
    with read_arrow(path, "holds no answers of a job; delete it, and the same command makes it again") as (_, metadata):
        return int(metadata["failed"])


def _where_failed(rows: pa.Table) -> list[int]:
    places: list[int] = pc.indices_nonzero(pc.not_equal(rows["status"], "ok")).to_pylist()
    return places
