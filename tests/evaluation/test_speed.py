"""Cascade and main alone are timed in turn, on the same photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.edge.cascade import Answer
from pipeline.errors import DataError
from pipeline.evaluation.speed import REPEATS, WARM_UP, compare_speed, summary
from pipeline.evaluation.timing import tables, write_tables


class Stopwatch:
    """Stands for a cascade; knows how long each photo takes."""

    def __init__(self, name: str, calls: list[tuple[str, str]], infer: dict[str, float]) -> None:
        self.name, self.calls, self.infer = name, calls, infer

    def classify(self, path: Path) -> Answer:
        self.calls.append((self.name, path.name))
        if path.name.startswith("bad"):
            return Answer(str(path), "failed", ["is no image"])
        first = sum(name == self.name for name, _ in self.calls) == 1
        extra = 100.0 if COLD < len(self.calls) <= COLD + 2 * WARM_UP else 0.0
        infer = {name: time + 100.0 * first for name, time in self.infer.items()}
        return Answer(str(path), decode_ms=2.0 + extra, preprocess_ms=1.0, infer_ms=infer)


Table = pd.DataFrame
COLD = 2 * (2 + REPEATS)  # calls before the warm-up, of both


def compare(photos: list[str]) -> tuple[dict[str, Table], list[tuple[str, str]]]:
    calls: list[tuple[str, str]] = []
    systems: Any = {
        "cascade": Stopwatch("cascade", calls, {"cache": 1.0, "main": 4.0}),
        "main": Stopwatch("main", calls, {"main": 13.0}),
    }
    return compare_speed(systems, [Path(name) for name in photos]), calls


def test_figures() -> None:
    series, _ = compare([f"{i}.jpg" for i in range(20)])
    figures = {name: summary(table) for name, table in series.items()}
    assert [figures["cascade"][name] for name in ("mean", "p50", "p95", "p99")] == 4 * [8.0]
    assert figures["main"]["mean"] == 16.0
    steps = figures["main"]["steps"]
    assert [steps[name]["p50"] for name in ("decode_ms", "preprocess_ms", "infer_ms")] == [2.0, 1.0, 13.0]
    assert [figures["main"][f"{name}_ms"] for name in ("cold", "warm", "repeated")] == [113.0, 13.0, 13.0]
    assert len(series["main"]) == 20


def test_first_one_then_the_other_comes_first() -> None:
    _, calls = compare([f"{i}.jpg" for i in range(12)])
    timed = [name for name, _ in calls[COLD + 2 * WARM_UP :]]
    assert timed[:4] == ["main", "cascade", "cascade", "main"]
    assert timed.count("main") == timed.count("cascade") == 12


def test_unreadable_photos_are_left_out() -> None:
    series, _ = compare(["bad.jpg", *(f"{i}.jpg" for i in range(12))])
    assert {len(table) for table in series.values()} == {12}


def test_nothing_to_time() -> None:
    with pytest.raises(DataError, match="none of the 2 photos can be read"):
        compare(["bad1.jpg", "bad2.jpg"])


# the tables -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def series() -> Table:
    """100 photos, the slow ones in between, as they came."""
    infer = [1.0 + (i * 37 % 100) / 100 for i in range(100)]
    table = pd.DataFrame({"decode_ms": 2.0, "preprocess_ms": 0.5, "infer_ms": infer})
    table = table.assign(total_ms=table.sum(axis=1))
    table.attrs = {"cold_ms": 10.0, "warm_ms": 2.0, "repeated_ms": 1.5}
    return table


def test_series_stays_in_the_order_of_measuring(series: Table) -> None:
    found = tables(series)
    times = found["inference_times"]
    assert times["InferenceTime_ms"].tolist() == series["infer_ms"].tolist() != sorted(series["infer_ms"])
    assert times["CumulativeTime_ms"].iloc[-1] == pytest.approx(series["infer_ms"].sum())
    assert times["Iteration"].tolist() == list(range(1, 101))
    assert found["iteration_differences"]["Difference_ms"].tolist()[:2] == pytest.approx([0.37, 0.37])
    assert found["rolling_average"]["RollingAverage_ms"].iloc[-1] == pytest.approx(series["infer_ms"][50:].mean())


def test_tables_of_the_users_form(series: Table, tmp_path: Path) -> None:
    write_tables(tmp_path, series)
    read = {path.stem: pd.read_csv(path) for path in tmp_path.iterdir()}
    assert set(read) == {
        "summary", "inference_times", "histogram", "percentiles", "rolling_average", "iteration_differences", "cache_impact",
    }  # fmt: skip
    figures = dict(read["summary"].to_numpy().tolist())
    assert (figures["Sample_Size"], figures["Min"], figures["Max"]) == (100, 1.0, 1.99)
    assert figures["CacheImprovement_percent"] == 80
    assert (figures["Mean"], figures["Range"]) == (pytest.approx(1.495), pytest.approx(0.99))
    assert (len(read["histogram"]), read["histogram"]["Count"].sum()) == (50, 100)
    assert read["percentiles"]["Percentile"].tolist() == list(range(0, 101, 5))
    assert read["cache_impact"]["InferenceTime_ms"].tolist() == [10.0, 2.0, 1.5]
