#!/usr/bin/env python3
"""Pack the bundle for the device: models, cascade, labels, classify.py."""

from __future__ import annotations

import argparse
import sys

from pipeline.console import Facts, configuration, parser, run

EXAMPLES = """  deploy.py --config configs/demo.yaml
  python3 output/demo/bundle/classify.py photos/ --topk 5 --out results.csv     (on the device)"""


def main() -> int:
    arguments = parser(__doc__ or "", EXAMPLES)
    arguments.add_argument(
        "--single_file", action="store_true", help="also write the cascade as one file, cascade.onnx"
    )
    return run(work, arguments.parse_args())


def work(arguments: argparse.Namespace) -> Facts:
    config = configuration(arguments)
    from pipeline.deploy.bundle import bundle
    from pipeline.outcome import of_bundle

    folder = bundle(config)
    if arguments.single_file:
        from pipeline.deploy.single_file import write_single_file

        write_single_file(folder, config.output / "cascade.onnx")
    return of_bundle(folder)


if __name__ == "__main__":
    sys.exit(main())
