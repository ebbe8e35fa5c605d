#!/usr/bin/env python3
"""Prune channels of trained models; the smaller networks get their own folders beside the unchanged originals."""

from __future__ import annotations

import argparse
import sys

from pipeline.cluster import Engine
from pipeline.console import Facts, configuration, parser, run

EXAMPLES = """  prune.py --config config.yaml                                  every model, by prune.ratios
  prune.py --config config.yaml --model main --ratios .05 .1 .15 .2 .25 .3 .35 .4 .45 .5
  prune.py --config config.yaml --model main --model cache_0.5_0 --macs 0.5 --retrain
  prune.py --config config.yaml --model main --ms 12 --set prune.steps=3
  prune.py --config config.yaml --model main --scope layer --importance taylor --set "prune.layers={'*.se.*': 0.1}"

names: main_p50 (half of the channels gone), main_macs50 (half of the MACs left), ..._retrained; any step takes them"""
SHORTCUTS = {
    "macs": "share of the MACs to keep",
    "params": "share of the parameters to keep",
    "ms": "ms per photo",
}


def main() -> int:
    arguments = parser(__doc__ or "", EXAMPLES)
    arguments.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME",
        help="a model folder's name; repeatable; none: all unpruned",
    )
    arguments.add_argument("--ratios", type=float, nargs="+", metavar="R", help="shares of the channels to remove")
    for name, text in SHORTCUTS.items():
        arguments.add_argument(f"--{name}", type=float, help=f"instead of --ratios: {text}")
    arguments.add_argument("--importance", help="l1, l2, taylor or deadness")
    arguments.add_argument("--scope", help="isomorphic, global or layer")
    arguments.add_argument("--retrain", action="store_true", help="also retrain them, like train.py retrain")
    Engine.arguments(arguments)
    return run(work, arguments.parse_args())


def work(arguments: argparse.Namespace) -> Facts:
    for key in ("ratios", *SHORTCUTS, "importance", "scope"):
        if (value := getattr(arguments, key)) is not None:
            arguments.overrides.append(f"prune.{key}={value}")
    config = configuration(arguments)
    from pipeline.compression.pruned import prune_models
    from pipeline.outcome import of_training
    from pipeline.training.run import retrain

    engine = Engine.chosen(arguments)
    return of_training(prune_models(config, arguments.model, retrain, arguments.retrain, engine))


if __name__ == "__main__":
    sys.exit(main())
