#!/usr/bin/env python3
"""Export, quantize and evaluate the models of train_multiple.py, with one table of all members of the section `sweep`."""

from __future__ import annotations

import argparse
import sys

from pipeline.console import DONE, Facts, configuration, parser, run

EXAMPLES = """  eval_multiple.py --config config.yaml --set 'sweep={cache.threshold: [0.2, 0.5, 0.6]}'"""


def main() -> int:
    return run(work, parser(__doc__ or "", EXAMPLES).parse_args())


def work(arguments: argparse.Namespace) -> Facts:
    config = configuration(arguments)
    from pipeline.sweep import evaluate_members

    failed = evaluate_members(config) != DONE
    return {"failed": failed, "table": config.output / "sweep_eval.csv"}


if __name__ == "__main__":
    sys.exit(main())
