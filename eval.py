#!/usr/bin/env python3
"""Evaluate the models and the cascade: each model classifies every photo of val and test once; figures are of test."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.console import Facts, configuration, parser, run

EXAMPLES = """  eval.py --config configs/demo.yaml
  eval.py --config configs/demo.yaml --images FOLDER      score on another folder of <species>/<photo>
  eval.py --config configs/demo.yaml --speed 500          also time cascade against main alone, photo by photo
  eval.py --config configs/demo.yaml --stress 200 --report    corrupted photos; everything in one page, report.html
  eval.py --config configs/demo.yaml --compare main.int8 cascade OTHER_EXPERIMENT"""
MEASURES = {  # each on N test photos
    "speed": "time N test photos, on one thread",
    "stress": "blur, noise, JPEG and darkness at 5 levels on N test photos",
    "tta": "nine views averaged against one, on N test photos",
    "features": "N test photos placed by main's features (PCA, t-SNE, UMAP), on a page",
}


def main() -> int:
    arguments = parser(__doc__ or "", EXAMPLES)
    arguments.add_argument("--images", type=Path, metavar="FOLDER", help="score on another labelled folder")
    for name, text in MEASURES.items():
        arguments.add_argument(f"--{name}", type=int, metavar="N", help=text)
    arguments.add_argument("--report", action="store_true", help="write a report of all results so far")
    arguments.add_argument("--compare", nargs="+", metavar="NAME", help="only compare evaluated models or experiments")
    arguments.add_argument("--channels", type=Path, metavar="PHOTO", help="only draw heat maps of each model's layers")
    given = arguments.parse_args()
    for name in MEASURES:
        if (n := getattr(given, name)) is not None and n < 1:
            arguments.error(f"--{name} takes a number of photos, not {n}")
    return run(work, given)


def work(arguments: argparse.Namespace) -> Facts:
    config = configuration(arguments)
    from pipeline.evaluation import compare, folder, run, speed, stress
    from pipeline.evaluation.report import channels, features, report
    from pipeline.outcome import of_evaluation, of_folder

    if arguments.compare:
        return compare.compare(config, arguments.compare)
    if arguments.channels:
        return {"pictures": channels.channels(config, arguments.channels)}
    root = arguments.images
    facts = of_folder(folder.evaluate_folder(config, root)) if root else of_evaluation(config, run.evaluate(config))
    measures = (speed.speed, stress.stress, stress.average_views, features.features)
    for name, measure in zip(MEASURES, measures, strict=True):
        if photos := getattr(arguments, name):
            measure(config, photos)
    return {**facts, "report": report.write_report(config)} if arguments.report else facts


if __name__ == "__main__":
    sys.exit(main())
