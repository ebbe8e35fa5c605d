#!/usr/bin/env python3
"""Run the whole main job in order: data set, training, export, evaluation, simulation, bundle, report.

After a kill the same command continues; steps that are up to date are skipped."""

from __future__ import annotations

import argparse
import sys

from pipeline.console import Facts, configuration, parser, run

EXAMPLES = """  run.py --config configs/demo.yaml
  run.py --config config.yaml --set main.model=mobilenetv3_large_100 --set experiment=mobilenet"""


def main() -> int:
    return run(work, parser(__doc__ or "", EXAMPLES).parse_args())


def work(arguments: argparse.Namespace) -> Facts:
    config = configuration(arguments)
    from pipeline.everything import run_everything
    from pipeline.outcome import of_bundle, of_evaluation

    unusable = run_everything(config)
    found = {**of_evaluation(config, unusable), **of_bundle(config.output / "bundle")}
    return {**found, "report": config.output / "report.html"}


if __name__ == "__main__":
    sys.exit(main())
