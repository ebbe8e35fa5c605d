#!/usr/bin/env python3
"""Train the main model (all species) or cache models (a window of the ranked species, and "Other"); retrain pruned ones."""

from __future__ import annotations

import argparse
import sys

from pipeline.console import Facts, configuration, parser, run
from pipeline.errors import ConfigError

EXAMPLES = """  train.py --config configs/demo.yaml main
  train.py --config configs/demo.yaml cache                      every window of cache.start_ranks, or cache.windows of them
  train.py --config config.yaml cache --threshold 0.5 --start_rank 7
  train.py --config config.yaml main --model convnext_tiny --epochs 30 --batch_size 64 --lr 0.001
  torchrun --nproc-per-node 2 --max-restarts 3 train.py --config config.yaml main    two processes train as one
  train.py --config config.yaml retrain main_p50 --epochs 15     into main_p50_retrained"""
SHORTCUTS = {"model": str, "epochs": int, "batch_size": int, "lr": float, "workers": int}


def main() -> int:
    arguments = parser(__doc__ or "", EXAMPLES)
    arguments.add_argument("role", choices=["cache", "main", "retrain"])
    arguments.add_argument("name", nargs="*", help="retrain: names of pruned models")
    arguments.add_argument("--threshold", type=float, help="cache: share of the photos that its species hold")
    arguments.add_argument(
        "--start_rank", type=int, action="append", help="cache: rank before its first species; repeatable"
    )
    arguments.add_argument("--img_size", type=int, nargs="+", metavar="PX", help="network input, e.g. 160 or 160 160")
    for name, kind in SHORTCUTS.items():
        arguments.add_argument(
            f"--{name}", type=kind, help=f"short for --set {{cache,main}}.{name}=... (retrain: prune.retrain)"
        )
    return run(work, arguments.parse_args())


def work(arguments: argparse.Namespace) -> Facts:
    if arguments.role != "cache" and (arguments.start_rank or arguments.threshold):
        raise ConfigError("--threshold and --start_rank choose the species of a cache; others know theirs")
    if (arguments.role == "retrain") != bool(arguments.name):
        raise ConfigError("names of models belong to retrain: train.py retrain NAME")
    if len(set(arguments.img_size or [])) > 1:
        raise ConfigError(f"--img_size {arguments.img_size}: the network's input is square, give one side")
    given = {name: getattr(arguments, name) for name in SHORTCUTS} | {"threshold": arguments.threshold}
    given["recipe.size"] = (arguments.img_size or [None])[0]
    section = "prune.retrain" if arguments.role == "retrain" else arguments.role
    arguments.overrides += [f"{section}.{key}={value}" for key, value in given.items() if value is not None]
    config = configuration(arguments)
    from pipeline.outcome import of_training
    from pipeline.training.run import retrain, train_role

    if arguments.role == "retrain":
        folders = [retrain(config, name) for name in arguments.name]
    else:
        folders = train_role(config, arguments.role, arguments.start_rank)
    return of_training(folders)


if __name__ == "__main__":
    sys.exit(main())
