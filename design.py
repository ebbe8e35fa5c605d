#!/usr/bin/env python3
"""Design the cascade: search stages, order and thresholds over all trained models, and write the best design."""

from __future__ import annotations

import argparse
import sys

from pipeline.console import Facts, configuration, parser, run

EXAMPLES = """  design.py --config configs/demo.yaml
  eval.py --config output/demo/design/config.yaml         measure the design on test
  deploy.py --config output/demo/design/config.yaml       pack it"""


def main() -> int:
    return run(work, parser(__doc__ or "", EXAMPLES).parse_args())


def work(arguments: argparse.Namespace) -> Facts:
    config = configuration(arguments)
    from pipeline.evaluation.choosing.design import design

    return design(config)


if __name__ == "__main__":
    sys.exit(main())
