"""The work of one worker: load the models once, classify a part of the photos, return its rows as an Arrow table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.deploy.answering import load
from pipeline.edge.cascade import Answer, Cascade
from pipeline.edge.results import COLUMNS, key, rounded
from pipeline.errors import ModelError
from pipeline.files import sha256

TEXT, NUMBER = pa.string(), pa.float64()
SCHEMA = pa.schema(  # COLUMNS of classify.py's results, with the types that Parquet has for them
    {
        "path": TEXT,
        "status": TEXT,
        "failures": pa.list_(TEXT),
        "species": TEXT,
        "score": NUMBER,
        "stage": TEXT,
        "topk": pa.list_(pa.struct({"species": TEXT, "score": NUMBER})),
        "decode_ms": NUMBER,
        "preprocess_ms": NUMBER,
        "infer_ms": pa.map_(TEXT, NUMBER),
    }
)
assert tuple(SCHEMA.names) == COLUMNS


@dataclass(frozen=True)
class System:
    """A bundle's folder, or one exported file under its model's name; relative photos are looked for below `root`.

    sha256: of cascade.json or of the exported file, so that every machine answers with the same one.
    """

    place: str
    model: str
    sha256: str
    topk: int
    root: str


@dataclass(frozen=True)
class Part:
    """A batch of photos; the unit of work."""

    index: int
    paths: Sequence[str]


@cache
def sessions(system: System) -> Cascade:
    """The cascade, loaded once per process, one thread."""
    place = Path(system.place)
    described = place if system.model else place / "cascade.json"
    if described.is_file() and sha256(described) != system.sha256:
        raise ModelError(f"{described} is another file than the job was begun with; put the same one on every machine")
    return load(place)


def answer(system: System, part: Part) -> tuple[int, pa.Table]:
    """Number of the part, and a row per photo in its order."""
    cascade = sessions(system)
    answers = (cascade.classify(os.path.join(system.root, path), system.topk) for path in part.paths)
    rows = [_row(path, found) for path, found in zip(part.paths, answers, strict=True)]
    return part.index, pa.Table.from_pylist(rows, SCHEMA)


def given_up(path: str, why: str) -> pa.Table:
    """The row of a photo that cannot be answered."""
    return pa.Table.from_pylist([_row(path, Answer(path, "failed", [why]))], SCHEMA)


def _row(path: str, found: Answer) -> dict[str, Any]:
    row = rounded(found)
    topk = [{"species": name, "score": score} for name, score in row["topk"]]
    return row | {"path": key(path), "topk": topk, "infer_ms": list(row["infer_ms"].items())}
