"""The bundle cascade's answer to a photo, with the reasons, by the edge code alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from pipeline.edge.cascade import Answer, Cascade, Stage
from pipeline.edge.recipe import decode, preprocess
from pipeline.edge.results import results
from pipeline.listening import FORMATS

TOPK = 5


@dataclass(frozen=True)
class Reason:
    """A stage that ran: its best label, that label's score by the stage's rule, and whether the score was enough."""

    stage: Stage
    guess: str
    score: float
    answered: bool


def ask(cascade: Cascade, name: str, photo: bytes) -> Answer:
    """The answer to a photo given as bytes; name: of the photo, in the answer."""
    return replace(cascade.classify("", TOPK, photo, formats=FORMATS), path=name)


def seen(cascade: Cascade, stage: Stage, photo: bytes) -> NDArray[np.uint8]:
    """The photo as a stage sees it, (size, size, 3)."""
    return preprocess(decode(photo, cascade.decode_side, formats=FORMATS), stage.recipe)


def reasons(cascade: Cascade, photo: bytes, answer: Answer) -> list[Reason]:
    """Why each stage that ran answered the photo or passed it on."""
    found = []
    for stage in cascade.stages:
        if stage.name in answer.infer_ms:
            logits = stage.model.logits(seen(cascade, stage, photo)[None])[0]
            score, p = stage.rule.scores(logits, stage.labels)
            guess, hit = stage.labels[int(p.argmax())], bool(score >= stage.rule.threshold)
            found.append(Reason(stage, guess, float(score), hit))
    return found


def as_csv(answers: Sequence[Answer]) -> bytes:
    """The answers as classify.py writes them."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "results.csv"
        with results(path) as (_, write, _):
            for answer in answers:
                write(answer)
        return path.read_bytes()
