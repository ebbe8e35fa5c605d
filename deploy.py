#!/usr/bin/env python3
"""Pack the bundle that goes to the device: models, cascade, labels, classify.py."""

from __future__ import annotations

import argparse
import sys

from pipeline.console import configuration, parser, run

EXAMPLES = """  deploy.py --config configs/demo.yaml
  python3 output/demo/bundle/classify.py photos/ --topk 5 --out results.csv     (on the device)"""


def main() -> int:
    return run(work, parser(__doc__ or "", EXAMPLES).parse_args())


def work(arguments: argparse.Namespace) -> None:
    config = configuration(arguments)
    from pipeline.deploy.bundle import bundle

    bundle(config)


if __name__ == "__main__":
    sys.exit(main())
