"""What every evaluation of an experiment needs: its manifest, its rules, the readable part of its predictions."""

from __future__ import annotations

from typing import Any

from pipeline.config import Config
from pipeline.errors import DataError
from pipeline.evaluation.choice import Choice, choose
from pipeline.evaluation.predict import Predictions


def chosen(config: Config, tables: list[Predictions]) -> Choice:
    """The rules of the stages: as configured, or chosen on val."""
    return choose(part(tables, "val"), config.route, config.seed)


def part(tables: list[Predictions], split: str) -> list[Predictions]:
    """The readable photos of one split; none is an error."""
    parts = [table.part(split) for table in tables]
    if parts[0].rows.empty:
        raise DataError(
            f"the {split} part has no photo that can be read; check train_val_split.train_size and val_size, "
            "and that the photos of the manifest are still there"
        )
    return parts


def unreadable(table: Predictions) -> dict[str, str]:
    """Photos without an answer, and why."""
    bad = table.rows[table.rows["reason"] != ""]
    return dict(zip(bad["image_path"], bad["reason"], strict=True))


def with_interval(figures: dict[str, Any], name: str) -> str:
    """A figure with its 95 % interval, for a person."""
    low, high = figures[f"{name}_95"]
    return f"{figures[name]:.4f} [{low:.3f}, {high:.3f}]"
