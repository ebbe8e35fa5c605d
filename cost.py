#!/usr/bin/env python3
"""Count the cost of models: MACs, parameters and memory of activations, in total and per layer; needs no photo."""

from __future__ import annotations

import argparse
import sys

from pipeline.console import Facts, configuration, parser, run

EXAMPLES = """  cost.py --config config.yaml                                    every model; feature maps over levels of pruning
  cost.py --config config.yaml --model main                       its layers
  cost.py --config config.yaml --model main --model main_p50      also their shapes side by side"""


def main() -> int:
    arguments = parser(__doc__ or "", EXAMPLES)
    arguments.add_argument("--model", action="append", metavar="NAME", help="a model folder's name; repeatable")
    return run(work, arguments.parse_args())


def work(arguments: argparse.Namespace) -> Facts:
    config = configuration(arguments)
    from pipeline.compression.cost_report import report

    return report(config, arguments.model or [])


if __name__ == "__main__":
    sys.exit(main())
