#!/usr/bin/env python3
"""How many caches pay: trained ones, and at best: stand-ins that answer as main itself does, folded to one window each."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline.config import Config
from pipeline.console import configuration, parser, run
from pipeline.dataset.manifest import Manifest, experiment_manifest
from pipeline.dataset.test_sets import draw_test_sets
from pipeline.edge.rule import Rule
from pipeline.evaluation.choosing.search import candidates, front, search
from pipeline.evaluation.choosing.sweep import THRESHOLDS
from pipeline.evaluation.experiment import part
from pipeline.evaluation.posthoc import fold
from pipeline.evaluation.predict import Predictions, predict_stages
from pipeline.evaluation.routing import Routed, route, truth_ids
from pipeline.files import read_json, write_json
from pipeline.labels import OTHER, LabelSpace
from pipeline.models.checkpoint import versions

RESULTS = Path(__file__).parent / "results"
EXAMPLES = (
    "  caches.py --config configs/haute_garonne_insecta.yaml      after run.py and cascade.py with the same --config\n"
    '  caches.py ... --set "cache.start_ranks=[0, 7, 14]"           with the trained caches of these windows'
)
COUNTS = (1, 2, 3, 5, 11)
MAINS = ("own main, 160 px", "convnext_tiny, untrained, 160 px")  # in cascade.json, each timed in turn with the cache


def work(arguments: argparse.Namespace) -> None:
    config = configuration(arguments)
    manifest = experiment_manifest(config)
    *caches, main = part(predict_stages(config, manifest, config.route.precision), "test")
    timed = read_json(arguments.times, "times of the cascade (cascade.py)")["speed"]
    counts = pd.Series({name: n for group in manifest.composition().values() for name, n in group.items()})
    ranking = counts.sort_values(ascending=False, kind="stable").index.tolist()
    size = len(caches[0].labels) - 1
    stand_ins = [stand_in(caches[0], main, ranking[k * size : (k + 1) * size]) for k in range(max(COUNTS))]
    result = {"versions": versions(), "manifest": manifest.hash, "species_per_window": size, "mains": MAINS}
    for kind, stages in {"at_best": stand_ins, "trained": caches}.items():
        result[kind] = {
            name: several(stages, main, paths, [timed[one] for one in MAINS])
            for name, paths in test_sets(config, manifest, ranking).items()
        }
        print(f"{kind}\n\n{table(result[kind])}\n")
    result["design"] = searched(stand_ins, main, config.route.max_drop)
    print(json.dumps({"design": result["design"]}))
    write_json(arguments.out, result)


def searched(caches: Sequence[Predictions], main: Predictions, max_drop: float) -> dict[str, Any]:
    """How long the search of design.py takes over all orders and thresholds of so many caches, and how much it sees."""
    *stages, last = candidates([*caches, main], [Rule()] * (len(caches) + 1))
    start = time.perf_counter()
    orders = search(stages, last, float(last.right.mean()) - max_drop)
    seconds = time.perf_counter() - start
    return {
        "caches": len(caches),
        "photos": len(last.right),
        "orders": len(orders),
        "designs": len(orders) * len(THRESHOLDS),
        "longest": max(len(one.caches) for one in orders),
        "on_the_front": len(front(orders)),
        "seconds": round(seconds, 2),
    }


def test_sets(config: Config, manifest: Manifest, ranking: Sequence[str]) -> dict[str, list[str]]:
    """Paths of the photos of each test set, and of the whole test split."""
    test, sets = manifest.part("test"), config.test_sets
    drawn = draw_test_sets(test, ranking, sets.sets, sets.window, sets.size, config.seed)
    return {name: one.rows["image_path"].tolist() for name, one in drawn.items()} | {
        "test": test["image_path"].tolist()
    }


def several(
    caches: Sequence[Predictions], main: Predictions, paths: Sequence[str], timed: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """On these photos, per number of caches: accuracy with main and without, hits and right ones among them per cache,
    share that reaches main, and times as fast as each main alone. A cache answers with its best label (the users' rule)."""
    there = main.rows["image_path"].isin(paths).to_numpy()
    *caches, main = [table.where(there) for table in (*caches, main)]
    found: dict[str, Any] = {"photos": len(main.rows), "main_alone": accuracy([main])[0]}
    for n in (n for n in COUNTS if n <= len(caches)):
        right, routed = accuracy([*caches[:n], main])[1:]
        found[str(n)] = {
            "accuracy": float(right.mean()),
            "without_main": accuracy(caches[:n])[0],
            "hits": [float((routed.stage == k).mean()) for k in range(n)],
            "right_among_them": [float(r.mean()) if len(r := right[routed.stage == k]) else None for k in range(n)],
            "to_main": float(routed.sent_on.mean()),
            "speed_up": [speed_up(routed, n, one) for one in timed],
        }
    return found


def accuracy(stages: Sequence[Predictions]) -> tuple[float, NDArray[np.bool_], Routed]:
    """Of a cascade; a photo without an answer is wrong."""
    routed = route(stages, [Rule()] * len(stages))
    right = routed.answers == truth_ids(stages[0].rows["species"].tolist(), routed.labels)
    return float(right.mean()), right, routed


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
    """Markdown: accuracy, share that reaches main, times as fast as each main alone."""
    counts = [str(n) for n in COUNTS if str(n) in next(iter(found.values()))]
    lines = ["| | photos | main only | " + " | ".join(counts) + " |", "| --- " * (3 + len(counts)) + "|"]
    for name, rows in found.items():
        cells = [
            f"{one['accuracy']:.3f} / {one['to_main']:.0%} / " + " / ".join(f"{x:.2f}" for x in one["speed_up"])
            for one in map(rows.get, counts)
        ]
        lines.append(f"| {name} | {rows['photos']} | {rows['main_alone']:.3f} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    options = parser(__doc__ or "", EXAMPLES)
    options.add_argument("--times", type=Path, default=RESULTS / "cascade.json", help="what cascade.py measured")
    options.add_argument("--out", type=Path, default=RESULTS / "caches.json")
    sys.exit(run(work, options.parse_args()))
