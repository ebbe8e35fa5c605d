#!/usr/bin/env python3
"""Open a page in the browser that classifies photos with the bundle, explains the answers, and moves thresholds."""

from __future__ import annotations

import argparse
import sys

from pipeline.console import configuration, parser, run

EXAMPLES = """  app.py --config configs/demo.yaml
  app.py --config configs/demo.yaml --port 8600
  app.py --config configs/demo.yaml --host 0.0.0.0        for everyone who can reach this machine"""


def main() -> int:
    arguments = parser(__doc__ or "", EXAMPLES)
    arguments.add_argument("--port", type=int, default=8501, help="port of the page (default: 8501)")
    arguments.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    return run(work, arguments.parse_args())


def work(arguments: argparse.Namespace) -> None:
    config = configuration(arguments)
    from pipeline.page.start import start

    start(config, arguments.host, arguments.port, arguments.tell)


if __name__ == "__main__":
    sys.exit(main())
