#!/usr/bin/env python3
"""How many caches would pay, at best: stand-ins that answer as main itself does, folded to one window of ranks each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline.config import Config
from pipeline.console import configuration, parser, run
from pipeline.dataset.manifest import Manifest, experiment_manifest
from pipeline.dataset.test_sets import draw_test_sets
from pipeline.edge.rule import Rule
from pipeline.evaluation.experiment import part
from pipeline.evaluation.posthoc import fold
from pipeline.evaluation.predict import Predictions, predict_stages
from pipeline.evaluation.routing import cascade_figures, route, truth_ids
from pipeline.files import read_json, write_json
from pipeline.labels import OTHER, LabelSpace
from pipeline.models.checkpoint import versions

RESULTS = Path(__file__).parent / "results"
EXAMPLES = (
    "  caches.py --config configs/haute_garonne_insecta.yaml      after run.py and cascade.py with the same --config"
)
COUNTS = (1, 2, 3, 5, 11)
LARGE = "convnext_tiny, untrained, 160 px"  # of cascade.json: what a larger main takes for a photo


def work(arguments: argparse.Namespace) -> None:
    config = configuration(arguments)
    manifest = experiment_manifest(config)
    cache, *_, main = part(predict_stages(config, manifest, config.route.precision), "test")
    large = read_json(RESULTS / "cascade.json", "times of the cascade (cascade.py)")["speed"][LARGE]["ms_mean"]
    counts = pd.Series({name: n for group in manifest.composition().values() for name, n in group.items()})
    ranking = counts.sort_values(ascending=False, kind="stable").index.tolist()
    found = {}
    for name, paths in test_sets(config, manifest, ranking).items():
        there = main.rows["image_path"].isin(paths).to_numpy()
        found[name] = at_best(cache.where(there), main.where(there), ranking, large["main alone"])
    result = {
        "versions": versions(),
        "manifest": manifest.hash,
        "species_per_window": len(cache.labels) - 1,
        "sets": found,
    }
    write_json(RESULTS / "caches.json", result | {"ms_large_main": large["main alone"]})
    print(table(found, large["main alone"]))


def test_sets(config: Config, manifest: Manifest, ranking: Sequence[str]) -> dict[str, list[str]]:
    """Paths of the photos of each test set, and of the whole test split."""
    test, sets = manifest.part("test"), config.test_sets
    drawn = draw_test_sets(test, ranking, sets.sets, sets.window, sets.size, config.seed)
    return {name: one.rows["image_path"].tolist() for name, one in drawn.items()} | {
        "test": test["image_path"].tolist()
    }


def at_best(cache: Predictions, main: Predictions, ranking: Sequence[str], large_ms: float) -> dict[str, Any]:
    """Per number of caches: accuracy, hits per stage, ms; each stand-in takes the times of the trained cache."""
    size = len(cache.labels) - 1
    times = main.rows[["decode_ms", "preprocess_ms", "infer_ms"]].sum(axis=1)
    rows: dict[str, Any] = {"photos": len(main.rows), "ms_main": float(times.mean())}
    for n in COUNTS:
        windows = [ranking[k * size : (k + 1) * size] for k in range(n)]
        stages = [*(stand_in(cache, main, window) for window in windows), main]
        routed = route(stages, [Rule()] * len(stages))
        told = cascade_figures(stages, routed)
        right = routed.answers == truth_ids(main.rows["species"].tolist(), routed.labels)
        hits = [stage["hit_rate"] for stage in told["stages"][:-1]]
        to_main = told["communication_rate"]
        rows[str(n)] = {
            "accuracy": float(right.mean()), "hits": hits, "to_main": to_main, "ms": told["ms_per_image"],
            "ms_large": told["ms_per_image"] + to_main * (large_ms - rows["ms_main"]),
        }  # fmt: skip
    return rows


def stand_in(cache: Predictions, main: Predictions, window: Sequence[str]) -> Predictions:
    """A cache of these species as good as main, as fast as the trained one."""
    labels = LabelSpace((*window, OTHER))
    logits = fold(main.logits, main.labels.names, window).astype("float32")
    name = f"ranks from {window[0]}"
    card = {**cache.card, "name": name, "labels": list(labels.names), "label_hash": labels.hash}
    return Predictions(cache.rows, logits, card, cache.data_hash)


def table(found: dict[str, dict[str, Any]], large_ms: float) -> str:
    """Markdown: to main and times as fast as main alone, with this main and with a large one."""
    lines = ["| | photos | accuracy | " + " | ".join(f"{n}" for n in COUNTS) + " |", "| --- " * (3 + len(COUNTS)) + "|"]
    for name, rows in found.items():
        several = [rows[str(n)] for n in COUNTS]
        cells = [
            f"{one['to_main']:.0%} / {rows['ms_main'] / one['ms']:.2f} / {large_ms / one['ms_large']:.2f}"
            for one in several
        ]
        lines.append(f"| {name} | {rows['photos']} | {rows['1']['accuracy']:.3f} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run(work, parser(__doc__ or "", EXAMPLES).parse_args()))
