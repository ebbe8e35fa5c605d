#!/usr/bin/env python3
"""Simulate days in the field by resampling the stored test predictions; no network runs."""

from __future__ import annotations

import argparse
import sys

from pipeline.console import Facts, configuration, parser, run

EXAMPLES = """  monte_carlo.py --config configs/demo.yaml --model both --input_size 160 --runs 10 --samples 500 --out_prefix myexp
  monte_carlo.py --config configs/demo.yaml --runs 10000 --samples 1000
  monte_carlo.py --config configs/demo.yaml --model both caches big       the cascade, without main, main alone
  monte_carlo.py --config configs/demo.yaml --set monte_carlo.mix=uniform --set monte_carlo.dirichlet=20"""


def main() -> int:
    arguments = parser(__doc__ or "", EXAMPLES)
    arguments.add_argument(
        "--model",
        "--model_type",
        nargs="+",
        default=["both"],
        help="small (first cache), big (main), both (the cascade), caches (no main), a stage's name, or an .onnx file",
    )
    arguments.add_argument("--runs", "--num_runs", type=int, help="how many runs")
    arguments.add_argument("--samples", "--sample_size", type=int, help="photos per run")
    arguments.add_argument("--threshold", type=float, help="share of the photos that the cache's species hold")
    arguments.add_argument("--input_size", type=int, nargs="+", metavar="PX", help="checked against the models' recipe")
    arguments.add_argument("--out_prefix", "--save_path", default="monte_carlo", help="names the result files")
    return run(work, arguments.parse_args())


def work(arguments: argparse.Namespace) -> Facts:
    given = {
        "monte_carlo.runs": arguments.runs,
        "monte_carlo.samples": arguments.samples,
        "cache.threshold": arguments.threshold,
    }
    arguments.overrides += [f"{key}={value}" for key, value in given.items() if value is not None]
    config = configuration(arguments)
    from pipeline.evaluation.simulation.simulation import monte_carlo

    sizes = arguments.input_size or ()
    return {model: monte_carlo(config, model, arguments.out_prefix, sizes) for model in arguments.model}


if __name__ == "__main__":
    sys.exit(main())
