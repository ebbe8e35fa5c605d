#!/usr/bin/env python3
"""Evaluate the models and the cascade: every photo of val and test is looked at once, figures are of test."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.console import SOME_FAILED, configuration, parser, run

EXAMPLES = """  eval.py --config configs/demo.yaml
  eval.py --config configs/demo.yaml --images FOLDER      score on another folder of <species>/<photo>
  eval.py --config configs/demo.yaml --speed 500          also time cascade against main alone, photo by photo"""


def main() -> int:
    arguments = parser(__doc__ or "", EXAMPLES)
    arguments.add_argument(
        "--images", type=Path, metavar="FOLDER", help="another labelled folder; species joined by name"
    )
    arguments.add_argument("--speed", type=int, metavar="N", help="time N test photos")
    given = arguments.parse_args()
    if given.speed is not None and given.speed < 1:
        arguments.error(f"--speed takes a number of photos, not {given.speed}")
    return run(work, given)


def work(arguments: argparse.Namespace) -> int | None:
    config = configuration(arguments)
    from pipeline.evaluation.folder import evaluate_folder
    from pipeline.evaluation.run import evaluate
    from pipeline.evaluation.speed import speed

    bad = len(evaluate_folder(config, arguments.images)["unreadable"]) if arguments.images else evaluate(config)
    if arguments.speed:
        speed(config, arguments.speed)
    return SOME_FAILED if bad else None


if __name__ == "__main__":
    sys.exit(main())
