"""Rows of answers, made alike: of a job's Parquet files and of classify.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from toy import Experiment

from pipeline.edge.classify import main as classify
from pipeline.edge.results import key

Row = dict[str, Any]
TIMES = ("decode_ms", "preprocess_ms", "infer_ms")
ODD = ("a b/Zygène d'été.png", "a/ünï 'code'.png", "a b/new\nline.png", "z/%20#?*.png", "z/" + "n" * 120 + ".png")


def answers(out: Path) -> list[Row]:
    """All rows in the order of their files, without times, in the types of classify.py's JSON lines."""
    rows = pq.read_table(out / "answers").to_pylist()
    for row in rows:
        row["topk"] = [[one["species"], one["score"]] for one in row["topk"]]
        row["stages"] = [name for name, _ in row["infer_ms"]]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def classified(packed: Experiment, photos: Path | str, out: Path) -> dict[str, Row]:
    """What classify.py says, by path."""
    classify(packed.root / "output" / "toy" / "bundle", [str(photos), "--out", str(out)])
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["path"], row["stages"] = key(row["path"]), list(row["infer_ms"])
    return {row["path"]: {name: value for name, value in row.items() if name not in TIMES} for row in rows}
