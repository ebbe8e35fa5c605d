"""The cascade: caches in order of their window, then main; the first stage that is sure of a species answers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BundleError, UnreadableImage
from .labels import OTHER, sha256
from .model import Model
from .recipe import Geometry, Recipe, decode, preprocess
from .rule import Rule
from .sources import state

FORMAT_VERSION = 2
UNKNOWN = "unknown"  # the answer where no stage hits and there is no main model


@dataclass
class Answer:
    """The cascade's answer for one photo. Times in ms; a stage that was not run has no time."""

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

    @property
    def ms(self) -> float:
        """Total time."""
        return self.decode_ms + self.preprocess_ms + sum(self.infer_ms.values())


@dataclass(frozen=True)
class Stage:
    """A model of the cascade, loaded at first use, and the rule by which it answers."""

    name: str
    labels: tuple[str, ...]
    recipe: Recipe
    load: Callable[[], Model]
    rule: Rule

    @staticmethod
    def of(name: str, model: Model, rule: Rule) -> Stage:
        """A stage whose model is loaded already."""
        return Stage(name, model.labels, model.recipe, lambda: model, rule)

    @cached_property
    def model(self) -> Model:
        return self.load()


class Cascade:
    """Stages in order. A photo is decoded once, and preprocessed for a stage only when that stage runs."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        if not stages:
            raise BundleError("a cascade needs at least one stage")
        last, sides = stages[-1], {stage.recipe.decode_side for stage in stages}
        if len(sides) > 1:
            told = ", ".join(f"{stage.name} {stage.recipe.decode_side}" for stage in stages)
            raise BundleError(f"the recipes disagree on decode_side ({told}); a photo is decoded only once")
        for name, labels in ((stage.name, stage.labels) for stage in stages[:-1]):
            if OTHER not in labels:
                raise BundleError(f"{name} is not the last stage but has no label {OTHER!r}, so it would answer all")
            if OTHER not in last.labels and (unknown := set(labels) - set(last.labels) - {OTHER}):
                raise BundleError(f"the labels of {name} and {last.name} disagree: {last.name} lacks {min(unknown)!r}")
        self.stages, self.decode_side = tuple(stages), sides.pop()

    def classify(self, path: Path | str, topk: int = 5, data: bytes | None = None, **limits: Any) -> Answer:
        """Answer for one photo; a photo that cannot be read is an answer with status "failed" and the reason.

        data: the photo itself, where it is no file; path is its name then. limits: of `decode`.
        """
        answer = Answer(str(path))
        start = time.perf_counter()
        try:
            seen = state(path)
            photo = decode(path if data is None else data, self.decode_side, **limits)
            if state(path) != seen:
                raise UnreadableImage("changed while it was read")
        except UnreadableImage as error:
            return Answer(str(path), "failed", [str(error)])
        answer.decode_ms = _ms(start)
        ready: dict[Geometry, NDArray[np.uint8]] = {}
        for stage in self.stages:
            model = stage.model  # loaded before the clock starts
            start = time.perf_counter()
            if (geometry := stage.recipe.geometry) not in ready:
                ready[geometry] = preprocess(photo, stage.recipe)[None]
            answer.preprocess_ms += _ms(start)
            start = time.perf_counter()
            logits = model.logits(ready[geometry])[0]
            answer.infer_ms[stage.name] = _ms(start)
            score, p = stage.rule.scores(logits, stage.labels)
            order = np.argsort(-p, kind="stable")[:topk]
            answer.topk = [(stage.labels[i], float(p[i])) for i in order]
            answer.stage, answer.score = stage.name, float(p[order[0]])
            answer.species = stage.labels[order[0]] if score >= stage.rule.threshold else UNKNOWN
            if answer.species != UNKNOWN:
                break
        return answer


def _ms(start: float) -> float:
    return (time.perf_counter() - start) * 1000


def load_cascade(folder: Path, threads: int = 1, lazy: bool = False) -> Cascade:
    """Read cascade.json and its models (lazy: each when it is first asked); each file must be the one that was packed."""
    path = folder / "cascade.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        if description["format_version"] != FORMAT_VERSION:
            raise BundleError(f"{path} has format {description['format_version']}; this version reads {FORMAT_VERSION}")
        cascade = Cascade([_stage(folder, stage, threads) for stage in description["stages"]])
    except FileNotFoundError as error:
        raise BundleError(f"no cascade.json in {folder}; this is not a bundle") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BundleError(f"{path} is not whole ({error!r}); copy the bundle again") from error
    for stage in cascade.stages[: 0 if lazy else None]:
        stage.model  # noqa: B018  # loads it
    return cascade


def _stage(folder: Path, stage: dict[str, Any], threads: int) -> Stage:
    path, rule = folder / Path(stage["file"]).name, Rule.from_dict(stage["rule"])
    if not 0 <= rule.threshold <= 1:
        raise BundleError(f"cascade.json: the threshold of {stage['name']} must lie in [0, 1]")
    if not path.is_file():
        raise BundleError(f"{path} is missing; copy the bundle again")
    load = partial(_load, path, stage, stage["sha256"], threads)
    return Stage(stage["name"], tuple(stage["labels"]), Recipe.from_dict(stage["recipe"]), load, rule)


def _load(path: Path, stage: dict[str, Any], digest: str, threads: int) -> Model:
    if sha256(path) != digest:
        raise BundleError(f"{path} is not the file that was packed; copy the bundle again")
    model = Model(path, threads)
    for what in ("labels", "recipe"):
        if model.card[what] != stage[what]:
            raise BundleError(f"cascade.json and {path.name} disagree on the {what}; copy the bundle again")
    return model
