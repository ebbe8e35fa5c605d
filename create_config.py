#!/usr/bin/env python3
"""Ask for the settings of a new region and write a commented configuration."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.console import Facts, configuration, parser, run

EXAMPLES = """  create_config.py pyrenees.yaml                   asks; an empty answer takes the default in [brackets]
  create_config.py pyrenees.yaml --config configs/haute_garonne_insecta.yaml   with the defaults of another file
  create_config.py pyrenees.yaml --yes --set paths.src_dataset=photos          asks nothing"""


def main() -> int:
    arguments = parser(__doc__ or "", EXAMPLES)
    arguments.add_argument("file", type=Path, metavar="FILE", help="file to write; its name is the experiment's")
    arguments.add_argument("--yes", action="store_true", help="ask nothing, use every default")
    arguments.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    return run(work, arguments.parse_args())


def work(arguments: argparse.Namespace) -> Facts:
    start = configuration(arguments)
    from pipeline.wizard import create_config

    create_config(start, arguments.file, None if arguments.yes else input, arguments.overwrite, arguments.overrides)
    return {"config": arguments.file}


if __name__ == "__main__":
    sys.exit(main())
