#!/usr/bin/env python3
"""Build the regional data set.

Stages: region, download, analyse, match, copy, verify, split, label, manifest, plots, test_sets, card."""

from __future__ import annotations

import argparse
import sys

from pipeline.console import Facts, configuration, parser, run

EXAMPLES = """  dataset_orchestrator.py --config configs/demo.yaml
  dataset_orchestrator.py --config config.yaml --until match      only match the species
  dataset_orchestrator.py --config config.yaml --until region --set region.source=check_list --set region.contact=you@example.org
  dataset_orchestrator.py --config config.yaml --only plots       one stage again, if its inputs changed
  dataset_orchestrator.py --config config.yaml --set train_val_split.dominant_threshold=0.8"""


def main() -> int:
    arguments = parser(__doc__ or "", EXAMPLES)
    stages = arguments.add_mutually_exclusive_group()
    stages.add_argument("--until", metavar="STAGE", help="stop after this stage")
    stages.add_argument("--only", metavar="STAGE", help="run only this stage")
    return run(work, arguments.parse_args())


def work(arguments: argparse.Namespace) -> Facts:
    config = configuration(arguments)
    from pipeline.dataset.stages import run_stages
    from pipeline.outcome import of_dataset

    unusable = run_stages(config, arguments.until, arguments.only)
    return of_dataset(config, unusable, arguments.until or arguments.only)


if __name__ == "__main__":
    sys.exit(main())
