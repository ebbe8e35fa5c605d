"""Tables and a plot of a series of inference times, in the format of the users' runtime benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from pipeline.dataset.plots import save
from pipeline.files import write_csv
from pipeline.style import COLOURS

BINS = 50
WINDOW = 50  # iterations of the rolling average


def write_tables(folder: Path, table: pd.DataFrame) -> None:
    """Write the seven tables of one system. table: decode_ms, preprocess_ms, infer_ms, total_ms, in order of measuring.

    Iterations stay in that order: sorted ones would make rolling average and differences meaningless.
    """
    for name, content in tables(table).items():
        write_csv(folder / f"{name}.csv", content)


def tables(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables by file name; times are of the networks alone (infer_ms) but for what inference_times has besides."""
    times, cold = table["infer_ms"], table.attrs
    iteration = np.arange(1, len(times) + 1)
    counts, edges = np.histogram(times, BINS)
    steps = np.arange(0, 101, 5)
    return {
        "summary": _summary(times, cold),
        "inference_times": pd.DataFrame(
            {
                "Iteration": iteration,
                "InferenceTime_ms": times,
                "CumulativeTime_ms": times.cumsum(),
                "Decode_ms": table["decode_ms"],
                "Preprocess_ms": table["preprocess_ms"],
                "Total_ms": table["total_ms"],
            }
        ),
        "histogram": pd.DataFrame(
            {"BinStart": edges[:-1], "BinEnd": edges[1:], "Count": counts, "Frequency": counts / len(times)}
        ),
        "percentiles": pd.DataFrame({"Percentile": steps, "InferenceTime_ms": np.percentile(times, steps)}),
        "rolling_average": pd.DataFrame(
            {"Iteration": iteration, "RollingAverage_ms": times.rolling(WINDOW, min_periods=1).mean()}
        ),
        "iteration_differences": pd.DataFrame({"Iteration": iteration[1:], "Difference_ms": np.diff(times)}),
        "cache_impact": pd.DataFrame(
            {
                "Measurement": ["Cold_Cache", "Warm_Cache", "Median_Repeated"],
                "InferenceTime_ms": [cold["cold_ms"], cold["warm_ms"], cold["repeated_ms"]],
            }
        ),
    }


def _summary(times: pd.Series[float], cold: Mapping[Any, float]) -> pd.DataFrame:
    p25, p75, p95, p99 = np.percentile(times, [25, 75, 95, 99])
    figures = {
        "Sample_Size": len(times),
        "Mean": times.mean(),
        "Median": times.median(),
        "StdDev": times.std(ddof=0),
        "Min": times.min(),
        "Max": times.max(),
        "P95": p95,
        "P99": p99,
        "IQR": p75 - p25,
        "Range": times.max() - times.min(),
        "ColdCache": cold["cold_ms"],
        "WarmCache": cold["warm_ms"],
        "CacheImprovement_percent": 100 * (1 - cold["warm_ms"] / cold["cold_ms"]),
    }
    return pd.DataFrame({"Metric": figures.keys(), "Value": figures.values()})


def draw(series: dict[str, pd.DataFrame], path: Path, title: str) -> None:
    """Total time of each photo in order of measurement, with its rolling median, and a histogram of the times."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=[2, 1], sharey=True)
    top = max(float(np.percentile(table["total_ms"], 99)) for table in series.values()) * 1.15
    bins = np.linspace(0, top, BINS + 1)
    for (name, table), colour in zip(series.items(), COLOURS, strict=False):
        total = table["total_ms"]
        left.plot(np.arange(1, len(total) + 1), total, ".", color=colour, alpha=0.25, markersize=4)
        left.plot(
            np.arange(1, len(total) + 1), total.rolling(WINDOW, min_periods=1, center=True).median(), color=colour
        )
        label = f"{name}: mean {total.mean():.1f}, median {total.median():.1f} ms"
        right.hist(total, bins, orientation="horizontal", color=colour, alpha=0.5, label=label)
    left.set(xlabel="photo, in order of measuring", ylabel="ms per photo, from bytes to label", ylim=(0, top))
    left.set_title(f"Points: photos; lines: rolling median of {WINDOW} ({title})", fontsize=10)
    right.set(xlabel="photos")
    figure.legend(*right.get_legend_handles_labels(), loc="lower center", ncols=2, frameon=False)
    figure.subplots_adjust(bottom=0.22)
    save(figure, path)
