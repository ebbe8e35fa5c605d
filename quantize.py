#!/usr/bin/env python3
"""Export trained models to ONNX (refused unless torch and ONNX agree) and quantize them to int8, with a report."""

from __future__ import annotations

import argparse
import sys

from pipeline.console import Facts, configuration, parser, run

EXAMPLES = """  quantize.py --config configs/demo.yaml                 every trained model of the experiment
  quantize.py --config config.yaml --model main
  quantize.py --config config.yaml --set quantize.max_drop=0.002    the worst layers stay in float until val loses less
  quantize.py --config config.yaml --set quantize.method=percentile --set quantize.calibration_images=512
  quantize.py --config config.yaml --set export.formats=[torchscript,triton]"""


def main() -> int:
    arguments = parser(__doc__ or "", EXAMPLES)
    arguments.add_argument("--model", action="append", metavar="NAME", help="a model folder's name; repeatable")
    return run(work, arguments.parse_args())


def work(arguments: argparse.Namespace) -> Facts:
    config = configuration(arguments)
    from pipeline.compression.run import quantize_models
    from pipeline.outcome import of_exports

    return of_exports(quantize_models(config, arguments.model))


if __name__ == "__main__":
    sys.exit(main())
