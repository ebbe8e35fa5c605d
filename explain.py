#!/usr/bin/env python3
"""Explain answers: a picture per photo with attribution maps of several methods; and tests of the maps' faithfulness."""

from __future__ import annotations

import argparse
import sys

from pipeline.console import Facts, configuration, parser, run

EXAMPLES = """  explain.py --config configs/demo.yaml                     some test photos: right ones, wrong ones
  explain.py --config configs/demo.yaml my_photo.jpg FOLDER --models main main_p50 --methods gradcam deeplift
  explain.py --config configs/demo.yaml my_photo.jpg --target "Apis mellifera" --methods all
  explain.py --config configs/demo.yaml --check 50          test the maps against random ones, on 50 test photos
  explain.py --config configs/demo.yaml --visualise "Ommatidius decempixelus" 7 --models main   what main wants to see
  explain.py --config configs/demo.yaml my_photo.jpg --groups 4 --layer blocks.4     channels that answer together

methods: gradcam, guided_gradcam, integrated_gradients, noise_tunnel, gradient_shap, deeplift, saliency, occlusion
needs the extra: pip install 'ommatidia[explain]'"""


def main() -> int:
    arguments = parser(__doc__ or "", EXAMPLES)
    arguments.add_argument("images", nargs="*", metavar="IMAGE", help="photos or folders; none: some test photos")
    arguments.add_argument("--models", nargs="+", default=[], metavar="NAME", help="model folders; none: the cascade's")
    arguments.add_argument("--methods", nargs="+", default=[], metavar="METHOD", help="attribution methods, or all")
    arguments.add_argument("--target", metavar="SPECIES", help="explain this species instead of the answer")
    instead = arguments.add_mutually_exclusive_group()
    instead.add_argument("--check", type=int, metavar="N", help="score the maps on N test photos, draw no pictures")
    instead.add_argument("--visualise", nargs="+", metavar="WHAT", help="pictures for species, or channels by number")
    instead.add_argument("--groups", type=int, metavar="N", help="N groups of channels, and where; 0: every place")
    arguments.add_argument("--layer", metavar="NAME", help="of --visualise and --groups (default: the last map)")
    given = arguments.parse_args()
    for name, least in (("check", 2), ("groups", 0)):
        if (n := getattr(given, name)) is not None and n < least:
            arguments.error(f"--{name} takes a number of at least {least}, not {n}")
    blind = given.check or given.visualise
    if (given.images and blind) or (given.target and (blind or given.groups is not None)):
        arguments.error("--check and --visualise take no IMAGE; none of --check, --visualise, --groups takes --target")
    return run(work, given)


def work(arguments: argparse.Namespace) -> Facts:
    config = configuration(arguments)
    from pipeline.explaining import faithful, run, visualise

    images, models, layer, failed = arguments.images, arguments.models, arguments.layer, 0
    if arguments.visualise:
        visualise.visualise(config, arguments.visualise, models, layer)
    elif arguments.groups is not None:
        failed = visualise.explain_groups(config, images, models, arguments.groups, layer)
    elif arguments.check:
        failed = faithful.check(config, models, arguments.methods, arguments.check)
    else:
        failed = run.explain(config, images, models, arguments.methods, arguments.target)
    return {"failed": failed, "explanations": config.output / "explanations"}


if __name__ == "__main__":
    sys.exit(main())
