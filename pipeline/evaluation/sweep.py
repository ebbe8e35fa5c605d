"""What the caches' common threshold does, for all thresholds at once, from stored predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.edge.recipe import Geometry, Recipe
from pipeline.edge.rule import Rule
from pipeline.evaluation.predict import Predictions
from pipeline.evaluation.routing import species_space, truth_ids
from pipeline.labels import translate

# Tried in this order, whatever the photos are: evenly spaced log-odds from .9999 down, then every hit.
THRESHOLDS = np.append(np.round(1 / (1 + np.exp(-np.arange(9, -3.1, -0.125))), 6), 0.0)


@dataclass(frozen=True)
class Sweep:
    """Per threshold: photos on which main alone is right (worse) or the cascade alone (better).

    reach: (stages, thresholds) photos that a stage looks at. costs: ms of each stage for one photo that reaches it, from
    the medians of the stored times, the first with the decoding, each with the preparation that it is the first to need.
    """

    photos: int
    worse: NDArray[np.int64]
    better: NDArray[np.int64]
    reach: NDArray[np.int64]
    costs: NDArray[np.float64]

    @property
    def ms(self) -> NDArray[np.float64]:
        """Mean ms per photo at each threshold."""
        mean: NDArray[np.float64] = self.costs @ self.reach / self.photos
        return mean


def sweep(tables: Sequence[Predictions], caches: Sequence[Rule]) -> Sweep:
    """tables: caches in order, then main; caches: their rules, whose thresholds do not count."""
    right = right_answers(tables)
    places = [place(table, rule) for table, rule in zip(tables[:-1], caches, strict=True)]
    return sweep_places(places, right[:-1], right[-1], stage_costs(tables))


def right_answers(tables: Sequence[Predictions]) -> list[NDArray[np.bool_]]:
    """Per table, whether its best label is the photo's species ("Other" never is)."""
    space = species_space(tables)
    truth = truth_ids(tables[0].rows["species"].tolist(), space)
    return [translate(t.labels.names, space.names)[t.logits.argmax(axis=1)] == truth for t in tables]


def place(table: Predictions, rule: Rule) -> NDArray[np.int64]:
    """Per photo, the first of THRESHOLDS at which the cache answers it; their number where it never does."""
    score, _ = rule.scores(table.logits, table.labels.names)
    return np.searchsorted(-THRESHOLDS, -score, side="left").astype(np.int64)


def sweep_places(
    places: Sequence[NDArray[np.int64]],
    right: Sequence[NDArray[np.bool_]],
    main: NDArray[np.bool_],
    costs: NDArray[np.float64],
) -> Sweep:
    """The same from each cache's `place` and right answers, and main's right answers; costs: see Sweep."""
    end = len(THRESHOLDS)
    worse, better = np.zeros(end, np.int64), np.zeros(end, np.int64)
    reach = np.full((len(places) + 1, end), len(main), np.int64)
    open_until = np.full(len(main), end)  # the first threshold at which an earlier stage answers
    for k, (mine, good) in enumerate(zip(places, right, strict=True)):
        worse += _between(mine, open_until, main & ~good)
        better += _between(mine, open_until, good & ~main)
        open_until = np.minimum(open_until, mine)
        reach[k + 1] -= _between(open_until, np.full(len(main), end), np.ones(len(main), bool))
    return Sweep(len(main), worse, better, reach, costs)


def _between(start: NDArray[np.int64], stop: NDArray[np.int64], which: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many of the photos count at each threshold, where one counts from its start to before its stop."""
    counts = which & (start < stop)
    size = len(THRESHOLDS) + 1
    steps = np.bincount(start[counts], minlength=size) - np.bincount(stop[counts], minlength=size)
    return np.cumsum(steps)[:-1]


def stage_costs(tables: Sequence[Predictions]) -> NDArray[np.float64]:
    """ms of each stage for a photo that reaches it, see Sweep."""
    costs, prepared = np.zeros(len(tables)), set[Geometry]()
    for k, table in enumerate(tables):
        geometry = Recipe.from_dict(table.card["recipe"]).geometry
        steps = [
            "infer_ms",
            *(["preprocess_ms"] if geometry not in prepared else []),
            *(["decode_ms"] if not k else []),
        ]
        costs[k] = table.rows[steps].median().sum()
        prepared.add(geometry)
    return costs
