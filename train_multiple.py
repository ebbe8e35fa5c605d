#!/usr/bin/env python3
"""Train many models from one configuration: every combination of the values in its section `sweep`, with one table."""

from __future__ import annotations

import argparse
import sys

from pipeline.cluster import Engine
from pipeline.console import DONE, Facts, configuration, parser, run

EXAMPLES = """  train_multiple.py --config config.yaml --set 'sweep={cache.threshold: [0.2, 0.5, 0.6]}'
  train_multiple.py --config config.yaml --set 'sweep={cache.start_ranks: [[0], [7], [14]], cache.lr: [0.001, 0.002]}'
  train_multiple.py --config config.yaml --engine ray --address 10.0.0.1:6379 --cpus 8 --gpus 1     a task per member"""


def main() -> int:
    arguments = parser(__doc__ or "", EXAMPLES)
    Engine.arguments(arguments)
    return run(work, arguments.parse_args())


def work(arguments: argparse.Namespace) -> Facts:
    config = configuration(arguments)
    from pipeline.sweep import train_members

    failed = train_members(config, Engine.chosen(arguments)) != DONE
    return {"failed": failed, "table": config.output / "sweep_train.csv"}


if __name__ == "__main__":
    sys.exit(main())
