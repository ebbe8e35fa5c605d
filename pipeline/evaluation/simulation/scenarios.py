"""Days unlike the test split, from stored predictions: other species mixes, only the head or the tail, a burst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import DataError
from pipeline.evaluation.metrics import headline
from pipeline.evaluation.predict import Predictions
from pipeline.evaluation.routing import Rules, cascade_figures, route
from pipeline.evaluation.scores import Ids
from pipeline.evaluation.simulation.mixes import edit
from pipeline.evaluation.simulation.monte_carlo import Day
from pipeline.evaluation.tables import judge, judge_cascade
from pipeline.labels import long_tail

BURST = 0.8  # share of one species in a burst
BURST_PHOTOS = 1000


def take(tables: Sequence[Predictions], photos: Ids) -> list[Predictions]:
    """The same photos of every table; an index may occur twice."""
    return [
        replace(table, rows=table.rows.iloc[photos].reset_index(drop=True), logits=table.logits[photos])
        for table in tables
    ]


def days(species: Sequence[str], train: Mapping[str, int], seed: int) -> dict[str, Ids]:
    """Photos (as indexes) of a day of the head, the middle or the tail alone, and of bursts of one species.

    species: of each photo. train: photos to train on per species. A burst of the commonest species, and of the commonest
    of the tail (else of the rarest): 80 % of 1000 photos, drawn with replacement.
    """
    names = sorted(set(species))
    ids = np.array([names.index(name) for name in species])
    counts = np.bincount(ids, minlength=len(names))
    parts = {part: [n for n in kept if n in names] for part, kept in long_tail(train).items()}
    found = {f"{part} only": np.flatnonzero(np.isin(species, kept)) for part, kept in parts.items() if kept}
    rare = max(
        parts["tail"] or [min(names, key=lambda n: counts[names.index(n)])], key=lambda n: counts[names.index(n)]
    )
    common = names[int(counts.argmax())]
    for name in dict.fromkeys((common, rare)):
        mix = edit(counts / counts.sum(), names, [], {name: BURST})
        rng = np.random.default_rng([seed, *name.encode()])
        found[f"burst of {name}"] = Day(ids, BURST_PHOTOS, mix).draw(rng)
    return found


def test_sets(folder: Path, paths: Sequence[str]) -> dict[str, Ids]:
    """Photos (as indexes of `paths`) of every drawn test set in the folder: <name>.parquet with image_path."""
    place = {path: i for i, path in enumerate(paths)}
    found = {}
    for file in sorted(folder.glob("*.parquet")):
        photos = pd.read_parquet(file, columns=["image_path"])["image_path"]
        known = [place[path] for path in photos if path in place]
        if len(known) < len(photos) / 2:
            raise DataError(
                f"{file} is of other photos than the predictions; run dataset_orchestrator.py and eval.py again"
            )
        if known:
            found[file.stem] = np.array(known)
    return found


def measure(scenarios: Mapping[str, Ids], tables: Sequence[Predictions], rules: Rules, seed: int) -> pd.DataFrame:
    """One row per scenario: the cascade and main alone on its photos, with intervals, what reaches main, ms per photo.

    photos: different ones; draws: how many of them, one that was drawn twice counted twice.
    """
    rows = []
    for scenario, photos in scenarios.items():
        part = take(tables, photos)
        routed = route(part, rules)
        judged, flow = judge_cascade(part, routed), cascade_figures(part, routed)
        systems = {"cascade": judged, **({"main": judge(part[routed.main])} if routed.main >= 0 else {})}
        different, first, counts = np.unique(photos, return_index=True, return_counts=True)
        row: dict[str, Any] = {"scenario": scenario, "photos": len(different), "draws": len(photos)}
        row["species"] = judged.rows["species"].nunique()
        for system, one in systems.items():
            figures = headline(one.truth[first], one.answers[first], one.labels, seed, counts=counts.astype(float))
            for figure in ("accuracy", "macro_f1"):
                low, high = figures[f"{figure}_95"]
                name = f"{system}_{figure}"
                row |= {name: figures[figure], f"{name}_low_95": low, f"{name}_high_95": high}
        row |= {key: flow[key] for key in ("communication_rate", "ms_per_image", "ms_per_image_main_alone")}
        rows.append(row)
    return pd.DataFrame(rows)
