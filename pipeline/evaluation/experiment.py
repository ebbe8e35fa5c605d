"""Common inputs of every evaluation: the rules, the readable predictions, and their fingerprint."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

from pipeline.config import Config
from pipeline.dataset.manifest import Manifest
from pipeline.errors import DataError
from pipeline.evaluation.choosing.choice import Choice, choose
from pipeline.evaluation.metrics import species_report, supports
from pipeline.evaluation.predict import Predictions, load_predictions, predictions_file, stage_names
from pipeline.evaluation.routing import Rules
from pipeline.evaluation.scores import Floats, Ids
from pipeline.files import digest, sha256
from pipeline.labels import LabelSpace


def chosen(config: Config, tables: list[Predictions], precision: str = "") -> Choice:
    """The rules of the stages: as configured, or chosen on val. precision: of the tables; none: that of route."""
    if not (name := config.route.reference):
        return choose(part(tables, "val"), config.route, config.seed)
    reference = load_predictions(predictions_file(config, name, precision or config.route.precision))
    *stages, against = part([*tables, reference], "val")
    return choose(stages, config.route, config.seed, against)


def basis(config: Config, rules: Rules = ()) -> str:
    """Digest of the predictions of all stages and of the rules, where a result depends on them; stored with a result so
    that a stale one is recognised."""
    files = [predictions_file(config, name, config.route.precision) for name in stage_names(config)]
    return digest([[sha256(file) for file in files], [rule and asdict(rule) for rule in rules]])


def part(tables: list[Predictions], split: str) -> list[Predictions]:
    """The readable photos of one split; none is an error."""
    parts = [table.part(split) for table in tables]
    if parts[0].rows.empty:
        raise DataError(
            f"the {split} part has no photo that can be read; check train_val_split.train_size and val_size, "
            "and that the photos of the manifest are still there"
        )
    return parts


def users_report(
    manifest: Manifest, truth: Ids, answers: Ids, labels: LabelSpace, weights: Floats | None = None
) -> pd.DataFrame:
    """The users' table (see species_report) with the supports of the manifest; every photo counts, also of no label."""
    totals = supports(manifest.rows[manifest.rows["split"] != ""], labels)
    return species_report(truth, answers, labels, totals, supports(manifest.part("train"), labels), weights)


def unreadable(table: Predictions) -> dict[str, str]:
    """Photos without an answer, and why."""
    bad = table.rows[table.rows["reason"] != ""]
    return dict(zip(bad["image_path"], bad["reason"], strict=True))


def with_interval(figures: dict[str, Any], name: str) -> str:
    """A figure with its 95 % interval, for a person."""
    low, high = figures[f"{name}_95"]
    return f"{figures[name]:.4f} [{low:.3f}, {high:.3f}]"
