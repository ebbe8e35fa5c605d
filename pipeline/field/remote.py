"""The `--main` mode of `classify.py`: photos that no cache answers are stored, sent, and become rows when main answers."""

from __future__ import annotations

import hashlib
import json
import math
import os
import socket
import sqlite3
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from .account import Account, sentence
from .link import OTHER, Link, Unreachable, read_token
from .sender import Sender
from .spool import SMALLEST, Spool, SpoolError

Results = Callable[[Path], AbstractContextManager[tuple[set[str], Callable[[Any], None], dict[str, int]]]]


@contextmanager
def remote(
    folder: Path, given: Namespace, cascade: Any, results: Results, key: Callable[[str], str], make: Callable[..., Any]
) -> Iterator[tuple[set[str], Callable[[Any], None], dict[str, int]]]:
    """Replaces `results`: a photo that no cache answers becomes a row only when main has answered it.

    folder: the bundle; cascade: its stages, of which the caches alone are asked from here on; results, key, make: of
    edge, to open the results, name a photo and make an answer.
    """
    if not (given.main and given.out and SMALLEST <= given.budget * 1e6 < math.inf):
        needs = (
            f"--out (photos that wait are kept beside the results) and a --budget of at least {SMALLEST / 1e6:g} (MB)"
        )
        print(f"error: --main needs an address, {needs}", file=sys.stderr)
        sys.exit(2)
    cascade.stages = tuple(stage for stage in cascade.stages if OTHER in stage.labels)
    if not cascade.stages:
        raise SpoolError(
            f"the bundle {folder} has no cache that could answer; take one with caches, or leave out --main"
        )
    text = (folder / "cascade.json").read_bytes()
    bundle, name = json.loads(text), os.environ.get("OMMATIDIA_DEVICE") or socket.gethostname()
    link = Link(given.main, read_token(), bundle)
    facts = {
        "experiment": str(bundle.get("experiment", "")), "bundle": hashlib.sha256(text).hexdigest()[:12], "device": name,
    }  # fmt: skip
    file = given.out.with_name(f"{given.out.name}.spool")
    with results(given.out) as (done, write, told), _opened(file, given, facts) as spool:
        known = done | spool.keys()
        account = Account(given.out.with_name(f"{given.out.name}.main.json"), lambda: len(known), spool.figures)
        sender = Sender(spool, link, given.out, given.topk, lambda row: write(make(**row)), account.write)
        spool.forget([number for number, path, _ in spool.decided() if path in done])  # killed between row and this
        try:
            link.greet()
        except Unreachable as error:
            print(f"{error}; photos are kept until it answers", file=sys.stderr)
        try:
            sender.start()
            yield known, lambda answer: sender.take(answer, key(answer.path)), told
            sender.drain()
        finally:
            sender.stop()
            told["waiting"] = spool.waiting()
            print(sentence(account.write()))


@contextmanager
def _opened(file: Path, given: Namespace, facts: dict[str, str]) -> Iterator[Spool]:
    try:
        spool = Spool(file, int(given.budget * 1e6), given.drop, facts)
        try:
            yield spool
        finally:
            spool.close()
    except sqlite3.Error as error:
        busy = "another classify.py uses it" if "locked" in str(error) else f"{error}"
        raise SpoolError(f"the spool {file} cannot be used: {busy}; mend it, then start again") from error
