"""What the device of these tests is, and its results read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toy import COLOURS, cache_colours

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = [("cache", cache_colours("Apis mellifera"), 0.5), ("main", COLOURS, 0.0)]
TIMES = ("decode_ms", "preprocess_ms", "infer_ms")
Run = Callable[..., int]


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    """Rows by path; each path has one."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len({row["path"] for row in rows}) == len(rows)
    return {row["path"]: row for row in rows}


def same(rows: dict[str, dict[str, Any]], wanted: dict[str, dict[str, Any]]) -> bool:
    """But for times, which tell of the same stages."""
    for row in wanted.values():
        assert set(rows[row["path"]]["infer_ms"]) == set(row["infer_ms"])
    return {path: {**row, **dict.fromkeys(TIMES)} for path, row in rows.items()} == {
        path: {**row, **dict.fromkeys(TIMES)} for path, row in wanted.items()
    }
