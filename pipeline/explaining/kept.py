"""Stamps of explanations: each is made once and kept until its inputs change, failures included."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.config import Config
from pipeline.console import log
from pipeline.explaining.subject import Subject
from pipeline.files import Stamp, read_json, run_once, write_json


def once(
    config: Config,
    output: Path,
    subjects: Sequence[Subject],
    inputs: Mapping[str, Any],
    work: Callable[[], Sequence[str]],
) -> int:
    """Do the work that writes `output`, unless it exists and was made by these subjects from the same inputs.

    work: returns what could not be had, a sentence each. They are kept, and told again where the work is skipped. Returns
    how many there are.
    """
    known = {
        **inputs, "models": [[s.card.name, s.card.weights_sha256] for s in subjects], "seed": config.seed,
        "version": __version__,
    }  # fmt: skip
    stamps = output.parent / ".stamps"
    kept = stamps / f"{output.name}.refused.json"
    stamp = Stamp(stamps / f"{output.name}.json", known, [output, kept])
    run_once(f"explain   {output.name}", stamp, config.global_.overwrite, lambda: write_json(kept, list(work())))
    refused: list[str] = read_json(kept, "list of what could not be had")
    for text in sorted(set(refused)):
        log.warning("explain   %s", text)
    return len(refused)
