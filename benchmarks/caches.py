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
from pipeline.evaluation.routing import Routed, route, truth_ids
from pipeline.files import read_json, write_json
from pipeline.labels import OTHER, LabelSpace
from pipeline.models.checkpoint import versions

RESULTS = Path(__file__).parent / "results"
EXAMPLES = (
    "  caches.py --config configs/haute_garonne_insecta.yaml      after run.py and cascade.py with the same --config"
)
COUNTS = (1, 2, 3, 5, 11)
MAINS = ("own main, 160 px", "convnext_tiny, untrained, 160 px")  # in cascade.json, each timed in turn with the cache


def work(arguments: argparse.Namespace) -> None:
    config = configuration(arguments)
    manifest = experiment_manifest(config)
    cache, *_, main = part(predict_stages(config, manifest, config.route.precision), "test")
    timed = read_json(RESULTS / "cascade.json", "times of the cascade (cascade.py)")["speed"]
    counts = pd.Series({name: n for group in manifest.composition().values() for name, n in group.items()})
    ranking = counts.sort_values(ascending=False, kind="stable").index.tolist()
    found = {}
    for name, paths in test_sets(config, manifest, ranking).items():
        there = main.rows["image_path"].isin(paths).to_numpy()
        found[name] = at_best(cache.where(there), main.where(there), ranking, [timed[one] for one in MAINS])
    result = {"versions": versions(), "manifest": manifest.hash, "species_per_window": len(cache.labels) - 1}
    write_json(RESULTS / "caches.json", result | {"mains": MAINS, "sets": found})
    print(table(found))


def test_sets(config: Config, manifest: Manifest, ranking: Sequence[str]) -> dict[str, list[str]]:
    """Paths of the photos of each test set, and of the whole test split."""
    test, sets = manifest.part("test"), config.test_sets
    drawn = draw_test_sets(test, ranking, sets.sets, sets.window, sets.size, config.seed)
    return {name: one.rows["image_path"].tolist() for name, one in drawn.items()} | {
        "test": test["image_path"].tolist()
    }


def at_best(
    cache: Predictions, main: Predictions, ranking: Sequence[str], timed: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Per number of caches: accuracy, hits per stage, share that reaches main, and times as fast as each main alone."""
    size = len(cache.labels) - 1
    found: dict[str, Any] = {"photos": len(main.rows)}
    for n in COUNTS:
        windows = [ranking[k * size : (k + 1) * size] for k in range(n)]
        stages = [*(stand_in(cache, main, window) for window in windows), main]
        routed = route(stages, [Rule()] * len(stages))
        right = routed.answers == truth_ids(main.rows["species"].tolist(), routed.labels)
        found[str(n)] = {
            "accuracy": float(right.mean()),
            "hits": [float((routed.stage == k).mean()) for k in range(n)],
            "to_main": float(routed.sent_on.mean()),
            "speed_up": [speed_up(routed, n, one) for one in timed],
        }
    return found


def speed_up(routed: Routed, caches: int, timed: dict[str, Any]) -> float:
    """Against main alone; decoding and preparing are done once, each cache takes what the trained one took."""
    once = timed["of_a_hit"]["decode"] + timed["of_a_hit"]["prepare"]
    cache, main = (timed["ms_mean"][name] - once for name in ("first cache alone", "main alone"))
    asked = sum(float(routed.asked(k).mean()) for k in range(caches))
    return float((once + main) / (once + asked * cache + float(routed.sent_on.mean()) * main))


def stand_in(cache: Predictions, main: Predictions, window: Sequence[str]) -> Predictions:
    """A cache of these species that answers as main does."""
    labels = LabelSpace((*window, OTHER))
    logits = fold(main.logits, main.labels.names, window).astype("float32")
    card = {**cache.card, "labels": list(labels.names), "label_hash": labels.hash}
    return Predictions(cache.rows, logits, card, cache.data_hash)


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown: share that reaches main / times as fast as each main alone."""
    lines = ["| | photos | accuracy | " + " | ".join(map(str, COUNTS)) + " |", "| --- " * (3 + len(COUNTS)) + "|"]
    for name, rows in found.items():
        several = [rows[str(n)] for n in COUNTS]
        cells = [f"{one['to_main']:.0%} / " + " / ".join(f"{x:.2f}" for x in one["speed_up"]) for one in several]
        lines.append(f"| {name} | {rows['photos']} | {several[0]['accuracy']:.3f} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run(work, parser(__doc__ or "", EXAMPLES).parse_args()))
