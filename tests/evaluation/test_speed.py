"""Cascade and main alone are timed in turn, on the same photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.edge.cascade import Answer
from pipeline.errors import DataError
from pipeline.evaluation.speed import WARM_UP, compare_speed


class Stopwatch:
    """Stands for a cascade; knows how long each photo takes."""

    def __init__(self, name: str, calls: list[tuple[str, str]], infer: dict[str, float]) -> None:
        self.name, self.calls, self.infer = name, calls, infer

    def classify(self, path: Path) -> Answer:
        self.calls.append((self.name, path.name))
        if path.name.startswith("bad"):
            return Answer(str(path), "failed", ["is no image"])
        extra = 100.0 if len(self.calls) <= 2 * WARM_UP else 0.0
        return Answer(str(path), decode_ms=2.0 + extra, preprocess_ms=1.0, infer_ms=self.infer)


def compare(photos: list[str]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    calls: list[tuple[str, str]] = []
    cascade: Any = Stopwatch("cascade", calls, {"cache": 1.0, "main": 4.0})
    main: Any = Stopwatch("main", calls, {"main": 13.0})
    return compare_speed(cascade, main, [Path(name) for name in photos]), calls


def test_figures() -> None:
    figures, _ = compare([f"{i}.jpg" for i in range(20)])
    assert figures["cascade"] == {"mean": 8.0, "p50": 8.0, "p95": 8.0, "p99": 8.0}
    assert figures["main"]["mean"] == 16.0
    assert (figures["decode_ms"], figures["preprocess_ms"]) == (2.0, 1.0)
    assert (figures["photos"], figures["threads"], figures["speed_up"]) == (20, 1, 2.0)


def test_first_one_then_the_other_comes_first() -> None:
    _, calls = compare([f"{i}.jpg" for i in range(12)])
    timed = [name for name, _ in calls[2 * WARM_UP :]]
    assert timed[:4] == ["main", "cascade", "cascade", "main"]
    assert timed.count("main") == timed.count("cascade") == 12


def test_unreadable_photos_are_left_out() -> None:
    figures, _ = compare(["bad.jpg", *(f"{i}.jpg" for i in range(12))])
    assert figures["photos"] == 12


def test_nothing_to_time() -> None:
    with pytest.raises(DataError, match="none of the 2 photos can be read"):
        compare(["bad1.jpg", "bad2.jpg"])
