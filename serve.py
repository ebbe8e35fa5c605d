#!/usr/bin/env python3
"""Classify photos over HTTP with the cascade of a bundle, with some of its stages, or with any exported model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.console import configuration, parser, run

EXAMPLES = """  serve.py --config configs/demo.yaml                             on this machine only, port 8000
  serve.py --config config.yaml --model main_p50 --precision fp32 one exported model, in a bundle or not
  serve.py --bundle bundle/ --stages main --host 0.0.0.0 --token-file token --tls cert.pem key.pem
  curl -F photos=@1.jpg -F photos=@2.jpg http://127.0.0.1:8000/v1/classify"""


def main() -> int:
    arguments = parser(__doc__ or "", EXAMPLES)
    add = arguments.add_argument
    add("--bundle", type=Path, metavar="DIR", help="folder of a bundle (default: the experiment's)")
    add("--stages", nargs="+", default=[], metavar="NAME", help="only these stages of it (default: all)")
    add("--model", metavar="NAME", help="serve only this model of the experiment, not the bundle")
    add("--precision", choices=["fp32", "int8"], help="precision of --model (default: route.precision)")
    add("--host", default="127.0.0.1", help="address to listen on; others than this machine need a token")
    add("--port", type=int, default=8000, help="port; 0: any free one (default 8000)")
    add("--token-file", type=Path, metavar="FILE", help="file with the clients' token (default: $OMMATIDIA_TOKEN)")
    add("--tls", nargs=2, type=Path, dest="certificate", metavar=("CERT", "KEY"), help="certificate for https")
    add("--threads", type=int, default=1, help="cores per call of a network (default 1)")
    add("--queue", type=int, default=64, help="photos waiting or in work; further ones get 429 (default 64)")
    add("--batch", type=int, default=8, help="photos per call of a network (default 8)")
    add("--wait-ms", type=float, default=2.0, help="how long a call waits for more photos (default 2)")
    add("--max-photos", type=int, default=32, help="photos per request (default 32)")
    add("--max-mb", type=float, default=32.0, help="size of a request (default 32)")
    add("--max-megapixels", type=float, default=50.0, help="size of a photo; of those in work twice that (default 50)")
    add("--timeout", type=float, default=30.0, metavar="SECONDS", help="limit to send or to read (default 30)")
    given = arguments.parse_args()
    otherwise = given.model or given.precision or given.overrides or given.config != arguments.get_default("config")
    if given.bundle and otherwise:
        arguments.error("--bundle names all that answers; leave out --config, --set, --model and --precision")
    return run(work, given)


def work(arguments: argparse.Namespace) -> None:
    config = None if arguments.bundle else configuration(arguments)
    from pipeline.deploy.answering import place
    from pipeline.serving.limits import Limits
    from pipeline.serving.run import read_token, serve

    limits = Limits(
        queue=arguments.queue, batch=arguments.batch, wait_ms=arguments.wait_ms, photos=arguments.max_photos,
        body_mb=arguments.max_mb, megapixels=arguments.max_megapixels, timeout=arguments.timeout,
    )  # fmt: skip
    where = {name: getattr(arguments, name) for name in ("host", "port", "stages", "threads", "certificate")}
    answering = place(config, arguments.model, arguments.precision) if config else arguments.bundle
    serve(answering, limits, token=read_token(arguments.token_file), ready=arguments.tell, **where)


if __name__ == "__main__":
    sys.exit(main())
