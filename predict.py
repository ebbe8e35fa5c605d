#!/usr/bin/env python3
"""Classify any number of photos with the cascade or one model, on all cores or a Ray cluster."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.console import Facts, configuration, parser, run

EXAMPLES = """  predict.py --config configs/demo.yaml --input photos/ --out answers/     again: does only what is missing
  predict.py --config config.yaml --input 'photos/**/*.jpg' --out answers/ --workers 8
  predict.py --config config.yaml --input paths.txt --out answers/ --model main --precision fp32
  predict.py --config config.yaml --input photos.parquet --out answers/ --engine ray --address 10.0.0.1:6379
  predict.py --config config.yaml --input photos/ --out answers/ --retry-failed

answers/answers/*.parquet have a row per photo, with the columns of classify.py; photos are asked once, sorted by path"""


def main() -> int:
    arguments = parser(__doc__ or "", EXAMPLES)
    arguments.add_argument(
        "--input", dest="photos", required=True, metavar="DIR|GLOB|LIST|PARQUET",
        help="folder, pattern, text file with one path per line, or table with a column path (image_path: below dst_dataset)",
    )  # fmt: skip
    arguments.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the job")
    arguments.add_argument("--model", metavar="NAME", help="use one model (default: the cascade of the bundle)")
    arguments.add_argument(
        "--precision", choices=["fp32", "int8"], help="precision of --model (default: route.precision)"
    )
    arguments.add_argument("--topk", type=int, default=5, help="number of candidates per photo (default 5)")
    arguments.add_argument(
        "--part-size", type=int, default=1000, metavar="N", help="photos per file and task (default 1000)"
    )
    arguments.add_argument("--engine", choices=["local", "ray"], default="local", help="where to run (default local)")
    arguments.add_argument(
        "--workers", type=int, metavar="N", help="number of workers, one core each (default: every core)"
    )
    arguments.add_argument("--address", help="ray: address of the cluster (default: start one on this machine)")
    arguments.add_argument("--retry-failed", action="store_true", help="classify only the photos that failed before")
    given = arguments.parse_args()
    for name in ("topk", "part_size", "workers"):
        if (n := getattr(given, name)) is not None and n < 1:
            arguments.error(f"--{name.replace('_', '-')} must be at least 1, not {n}")
    if given.address and given.engine != "ray":
        arguments.error("--address is of --engine ray; add it, or leave the address out")
    return run(work, given)


def work(arguments: argparse.Namespace) -> Facts:
    config = configuration(arguments)
    from pipeline.bulk.run import Request, predict_photos

    return predict_photos(config, Request(**{name: getattr(arguments, name) for name in Request.__dataclass_fields__}))


if __name__ == "__main__":
    sys.exit(main())
