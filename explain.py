#!/usr/bin/env python3
"""Show where the models look: a picture per photo with the maps of several methods; and whether maps can be believed."""

from __future__ import annotations

import argparse
import sys

from pipeline.console import SOME_FAILED, configuration, parser, run

EXAMPLES = """  explain.py --config configs/demo.yaml                     some test photos: right ones, wrong ones
  explain.py --config configs/demo.yaml my_photo.jpg FOLDER --models main main_p50 --methods gradcam deeplift
  explain.py --config configs/demo.yaml my_photo.jpg --target "Apis mellifera" --methods all
  explain.py --config configs/demo.yaml --check 50          do the maps say more than chance, on 50 test photos?

methods: gradcam, guided_gradcam, integrated_gradients, noise_tunnel, gradient_shap, deeplift, saliency, occlusion
needs the extra: pip install 'ommatidia[explain]'"""


def main() -> int:
    arguments = parser(__doc__ or "", EXAMPLES)
    arguments.add_argument("images", nargs="*", metavar="IMAGE", help="photos or folders; none: some test photos")
    arguments.add_argument("--models", nargs="+", default=[], metavar="NAME", help="model folders; none: the cascade's")
    arguments.add_argument("--methods", nargs="+", default=[], metavar="METHOD", help="ways to look, or all")
    arguments.add_argument("--target", metavar="SPECIES", help="what speaks for this species, not for the answer")
    arguments.add_argument("--check", type=int, metavar="N", help="score the maps on N test photos, draw no pictures")
    given = arguments.parse_args()
    if given.check is not None and given.check < 2:
        arguments.error(f"--check takes a number of photos, 2 or more, not {given.check}")
    return run(work, given)


def work(arguments: argparse.Namespace) -> int | None:
    config = configuration(arguments)
    from pipeline.explaining import faithful, run

    if arguments.check:
        return SOME_FAILED if faithful.check(config, arguments.models, arguments.methods, arguments.check) else None
    given = (arguments.images, arguments.models, arguments.methods, arguments.target)
    return SOME_FAILED if run.explain(config, *given) else None


if __name__ == "__main__":
    sys.exit(main())
