"""The cascade: caches in order of their window, then main; the first stage that is sure of a species answers."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BundleError, UnreadableImage
from .labels import OTHER
from .model import Model, file_sha256
from .recipe import decode, preprocess

FORMAT_VERSION = 1
UNKNOWN = "unknown"  # the answer where no stage hits and there is no main model


def probabilities(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Softmax over the last axis."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    result: NDArray[np.float64] = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def hits(
    probability: NDArray[np.float64], labels: Sequence[str], threshold: float
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """The one routing rule: a stage answers when its best label is a species and has at least `threshold`.

    probability: (..., labels). Returns whether the stage answers, and its best label, each of shape (...).
    """
    best = probability.argmax(axis=-1)
    sure = probability.max(axis=-1) >= threshold
    return (sure & (best != labels.index(OTHER)) if OTHER in labels else sure), best


@dataclass
class Answer:
    """What the cascade says of one photo. Times in ms; a stage that was not asked has no time."""

    path: str
    status: str = "ok"
    failures: list[str] = field(default_factory=list)
    species: str = ""
    score: float = 0.0
    stage: str = ""
    topk: list[tuple[str, float]] = field(default_factory=list)
    decode_ms: float = 0.0
    preprocess_ms: float = 0.0
    infer_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A model of the cascade, and the probability from which on it answers."""

    name: str
    model: Model
    threshold: float


class Cascade:
    """Stages in order. The photo is decoded once, and made ready for a stage only when that stage is asked."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        if not stages:
            raise BundleError("a cascade needs at least one stage")
        sides = {stage.model.recipe.decode_side for stage in stages}
        if len(sides) > 1:
            names = ", ".join(f"{stage.name} {stage.model.recipe.decode_side}" for stage in stages)
            raise BundleError(
                f"the recipes of the stages disagree on decode_side ({names}); a photo is decoded only once"
            )
        last = stages[-1]
        for stage in stages[:-1]:
            unknown = set(stage.model.labels) - set(last.model.labels) - {OTHER}
            if OTHER not in last.model.labels and unknown:
                raise BundleError(
                    f"the label spaces of {stage.name} and {last.name} disagree: {last.name} lacks {sorted(unknown)[0]!r}"
                )
            if OTHER not in stage.model.labels:
                raise BundleError(
                    f"{stage.name} is not the last stage but has no label {OTHER!r}, so it would answer all"
                )
        self.stages, self.decode_side = tuple(stages), sides.pop()

    def classify(self, path: Path | str, topk: int = 5) -> Answer:
        """Answer for one photo; a photo that cannot be read is an answer with status "failed" and the reason."""
        answer = Answer(str(path))
        start = time.perf_counter()
        try:
            photo = decode(path, self.decode_side)
        except UnreadableImage as error:
            answer.status, answer.failures = "failed", [str(error)]
            return answer
        answer.decode_ms = _ms(start)
        ready: dict[str, NDArray[np.uint8]] = {}
        for stage in self.stages:
            start = time.perf_counter()
            recipe = stage.model.recipe
            if recipe.hash not in ready:
                ready[recipe.hash] = preprocess(photo, recipe)[None]
            answer.preprocess_ms += _ms(start)
            start = time.perf_counter()
            logits = stage.model.logits(ready[recipe.hash])[0]
            answer.infer_ms[stage.name] = _ms(start)
            p = probabilities(logits)
            hit, best = hits(p, stage.model.labels, stage.threshold)
            order = np.argsort(-p, kind="stable")[:topk]
            answer.topk = [(stage.model.labels[i], float(p[i])) for i in order]
            answer.stage, answer.score = stage.name, float(p[best])
            answer.species = stage.model.labels[int(best)] if hit else UNKNOWN
            if hit:
                break
        return answer


def _ms(start: float) -> float:
    return (time.perf_counter() - start) * 1000


def load_cascade(folder: Path, threads: int = 1) -> Cascade:
    """Read cascade.json and its models; every file must be the one that was measured and packed."""
    description = read_description(folder)
    try:
        return Cascade([_load_stage(folder, stage, threads) for stage in description["stages"]])
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{folder / 'cascade.json'} is not whole ({error!r}); copy the bundle again") from error


def _load_stage(folder: Path, stage: dict[str, Any], threads: int) -> Stage:
    path = folder / Path(stage["file"]).name
    if not path.is_file() or file_sha256(path) != stage["sha256"]:
        raise BundleError(f"{path} is missing or not the file that was packed; copy the bundle again")
    model = Model(path, threads)
    for what in ("label_hash", "recipe_hash"):
        if model.card[what] != stage[what]:
            raise BundleError(f"cascade.json and {path.name} disagree in {what}: {stage[what]} and {model.card[what]}")
    if not 0 <= stage["threshold"] <= 1:
        raise BundleError(f"cascade.json: the threshold of {stage['name']} must lie in [0, 1]")
    return Stage(stage["name"], model, float(stage["threshold"]))


def read_description(folder: Path) -> dict[str, Any]:
    """The content of cascade.json."""
    path = folder / "cascade.json"
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"no cascade.json in {folder}; this is not a bundle") from error
    except ValueError as error:
        raise BundleError(f"{path} is not JSON: {error}") from error
    version = description.get("format_version") if isinstance(description, dict) else None
    if version != FORMAT_VERSION:
        raise BundleError(f"{path} has format {version}; this version reads {FORMAT_VERSION}")
    return description
