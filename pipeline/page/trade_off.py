"""Cost and benefit of the caches' thresholds, from the stored predictions of val or test; no network runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pipeline.config import Config
from pipeline.dataset.manifest import learnt_manifest
from pipeline.edge.cascade import load_cascade
from pipeline.edge.rule import Rule
from pipeline.errors import DataError
from pipeline.evaluation.choosing.sweep import THRESHOLDS
from pipeline.evaluation.predict import (
    Predictions,
    load_predictions,
    model_file,
    predictions_file,
    predictions_stamp,
    stage_names,
)
from pipeline.evaluation.routing import Routed, Rules, at, cascade_figures, route, truth_ids
from pipeline.evaluation.scores import Sample, with_intervals
from pipeline.files import read_json, sha256


@dataclass(frozen=True)
class Stored:
    """Predictions of the stages, caches first, and the rules by which the bundle's stages answer (None: not in it)."""

    tables: list[Predictions]
    rules: Rules

    @property
    def caches(self) -> dict[str, Rule | None]:
        """The stages with a threshold."""
        return {table.name: rule for table, rule in self.pairs if table.labels.has_other}

    @property
    def pairs(self) -> list[tuple[Predictions, Rule | None]]:
        """Each stage's predictions and rule."""
        return list(zip(self.tables, self.rules, strict=True))

    def part(self, split: str) -> Stored:
        """The readable photos of one split."""
        return Stored([table.part(split) for table in self.tables], self.rules)


@dataclass(frozen=True)
class Figures:
    """Figures of photos under some rules. main_alone: accuracy, None without main; ms: per photo."""

    photos: int
    accuracy: float
    communication: float
    unknown: float
    ms: float
    main_alone: float | None


def stored(config: Config) -> Stored:
    """Read the predictions of the models in the bundle; those of other models or photos are an error."""
    folder, precision = config.output / "bundle", config.route.precision
    packed = read_json(folder / "cascade.json", "bundle (run deploy.py with the same --config first)")
    hashes = {stage["name"]: stage["sha256"] for stage in packed["stages"]}
    rules = {stage.name: stage.rule for stage in load_cascade(folder, lazy=True).stages}
    manifest, tables = learnt_manifest(config), []
    for name in stage_names(config):
        path = predictions_file(config, name, precision)
        tables.append(load_predictions(path))
        model = hashes.get(name) or sha256(model_file(config, name, precision))
        if not predictions_stamp(path, model, manifest.hash).fresh():
            raise DataError(f"{path} is not of the models in the bundle; run eval.py, then deploy.py again")
    return Stored(tables, [rules.get(table.name) for table in tables])


def start(rule: Rule | None) -> float:
    """Slider position of the bundle's own rule, to three decimals; 1 for a cache that is off."""
    return 1.0 if rule is None else round(rule.threshold, 3)


def with_thresholds(found: Stored, thresholds: Sequence[float]) -> Rules:
    """The bundle's rules with other thresholds, one per cache; a slider at its start position keeps the exact rule."""
    given = iter(thresholds)
    return [_moved(rule, next(given)) if table.labels.has_other else rule for table, rule in found.pairs]


def _moved(rule: Rule | None, threshold: float) -> Rule | None:
    return rule if threshold == start(rule) else replace(rule or Rule(), threshold=threshold)


def figures(found: Stored, rules: Rules) -> Figures:
    """The figures of these photos under these rules."""
    routed = route(found.tables, rules)
    right, told = _right(found, routed), cascade_figures(found.tables, routed)
    main = None
    if routed.main >= 0:
        alone: Rules = [*[None] * routed.main, found.rules[routed.main]]
        main = float(_right(found, route(found.tables, alone)).mean())
    return Figures(
        len(right), float(right.mean()), told["communication_rate"], told["unknown_rate"], told["ms_per_image"], main,
    )  # fmt: skip


def accuracy_95(found: Stored, rules: Rules, seed: int) -> tuple[float, float]:
    """The bootstrap interval of the accuracy, as the evaluation has it."""
    right = _right(found, route(found.tables, rules))
    answers = np.where(right, 0, -1)  # 0 is the truth of every photo: only right and wrong count here
    low, high = with_intervals(Sample(np.zeros_like(answers), answers, 1), seed)["accuracy_95"]
    return low, high


def curve(found: Stored) -> pd.DataFrame:
    """One threshold for all caches, over its whole range: threshold, communication, accuracy."""
    rows = []
    for threshold in THRESHOLDS:
        routed = route(found.tables, at(found.tables, found.rules, float(threshold)))
        rows.append((float(threshold), float(routed.sent_on.mean()), float(_right(found, routed).mean())))
    return pd.DataFrame(rows, columns=["threshold", "communication", "accuracy"])


def _right(found: Stored, routed: Routed) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    truth = truth_ids(found.tables[0].rows["species"].tolist(), routed.labels)
    right: np.ndarray[tuple[int], np.dtype[np.bool_]] = routed.answers == truth
    return right
