"""Effect of the caches' thresholds, for all steps of a path of thresholds at once, from stored predictions."""

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
# a path, (steps, caches): places in THRESHOLDS, -1 for a cache that is off; none of them ever falls
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Sweep:
    """Per step: photos on which the reference (main alone) is right and the cascade is not (worse), or the reverse (better).

    reach: (stages, steps) photos that a stage looks at, where it is on. costs: ms of each stage for one photo that reaches
    it, from the medians of the stored times, the first with the decoding, each with the preparation that it is the first
    to need.
    """

    photos: int
    worse: NDArray[np.int64]
    better: NDArray[np.int64]
    reach: NDArray[np.int64]
    costs: NDArray[np.float64]

    @property
    def ms(self) -> NDArray[np.float64]:
        """Mean ms per photo at each step, all stages on."""
        mean: NDArray[np.float64] = self.costs @ self.reach / self.photos
        return mean


def one_for_all(caches: int) -> Places:
    """The path on which all caches have the same threshold."""
    return np.repeat(np.arange(len(THRESHOLDS))[:, None], caches, axis=1)


def sweep(
    tables: Sequence[Predictions],
    caches: Sequence[Rule],
    path: Places | None = None,
    reference: Predictions | None = None,
) -> Sweep:
    """tables: caches in order, then main; caches: their rules, whose thresholds do not count; path: none: one for all;
    reference: what the cascade is compared with, on the same photos; none: main.
    """
    right = right_answers(tables)
    against = None if reference is None else right_answers([reference])[0]
    path = one_for_all(len(caches)) if path is None else path
    places = [
        np.searchsorted(steps, place(table, rule))
        for table, rule, steps in zip(tables[:-1], caches, path.T, strict=True)
    ]
    return sweep_places(places, right[:-1], right[-1], stage_costs(tables), len(path), against)


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
    end: int = len(THRESHOLDS),
    reference: NDArray[np.bool_] | None = None,
) -> Sweep:
    """The same from the step (of `end`) at which each cache answers each photo, or `place`, and from right answers."""
    against = main if reference is None else reference
    always = np.zeros(len(main), np.int64)
    worse, better = np.zeros(end, np.int64), np.zeros(end, np.int64)
    reach = np.full((len(places) + 1, end), len(main), np.int64)
    open_until = np.full(len(main), end)  # the first step at which an earlier stage answers
    for k, (mine, good) in enumerate(zip([*places, always], [*right, main], strict=True)):
        reach[k] -= _between(open_until, np.full(len(main), end), np.ones(len(main), bool), end)
        worse += _between(mine, open_until, against & ~good, end)
        better += _between(mine, open_until, good & ~against, end)
        open_until = np.minimum(open_until, mine)
    return Sweep(len(main), worse, better, reach, costs)


def _between(
    start: NDArray[np.int64], stop: NDArray[np.int64], which: NDArray[np.bool_], end: int
) -> NDArray[np.int64]:
    """How many of the photos count at each step, where one counts from its start to before its stop."""
    counts = which & (start < stop)
    steps = np.bincount(start[counts], minlength=end + 1) - np.bincount(stop[counts], minlength=end + 1)
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
