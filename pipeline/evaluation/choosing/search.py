"""Search for cascade designs on val: which caches, in which order, with which threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.edge.recipe import Geometry, Recipe
from pipeline.edge.rule import Rule
from pipeline.evaluation.choosing.sweep import THRESHOLDS, Sweep, place, right_answers, sweep_places
from pipeline.evaluation.predict import Predictions
from pipeline.evaluation.routing import species_space, truth_ids

KEEP = 200  # beam width: orders of each length that are extended; short designs are searched exhaustively


@dataclass(frozen=True, eq=False)  # each is itself: arrays have no one equality
class StageModel:
    """A trained model on the photos of the search: its answers and its times in ms (medians)."""

    name: str
    geometry: Geometry
    right: NDArray[np.bool_]
    place: NDArray[np.int64]
    infer: float
    prepare: float
    decode: float


@dataclass(frozen=True, eq=False)
class Order:
    """Caches in order before the main model, with the result of each threshold."""

    caches: tuple[StageModel, ...]
    main: StageModel
    found: Sweep
    accuracy: NDArray[np.float64]
    ms: NDArray[np.float64]

    @property
    def names(self) -> list[str]:
        return [stage.name for stage in (*self.caches, self.main)]


def candidates(tables: Sequence[Predictions], rules: Sequence[Rule]) -> list[StageModel]:
    """One per table; the rules of main models are ignored."""
    found = []
    for table, rule, right in zip(tables, rules, right_answers(tables), strict=True):
        geometry = Recipe.from_dict(table.card["recipe"]).geometry
        infer, prepare, decode = table.rows[["infer_ms", "preprocess_ms", "decode_ms"]].median()
        found.append(StageModel(table.name, geometry, right, place(table, rule), infer, prepare, decode))
    return found


def order(caches: Sequence[StageModel], main: StageModel) -> Order:
    """Accuracy and mean ms at every threshold."""
    costs, prepared = [], set[Geometry]()
    for stage in (*caches, main):
        costs.append(stage.infer + (stage.prepare if stage.geometry not in prepared else 0.0))
        prepared.add(stage.geometry)
    costs[0] += main.decode
    found = sweep_places([c.place for c in caches], [c.right for c in caches], main.right, np.array(costs))
    accuracy = main.right.mean() + (found.better - found.worse) / found.photos
    return Order(tuple(caches), main, found, accuracy, found.ms)


def search(caches: Sequence[StageModel], main: StageModel, wanted: float) -> list[Order]:
    """All orders of the caches that can matter, main alone first.

    Orders grow by one cache at the end. While a length has at most KEEP orders all of them grow, so the search is exact;
    then only those that need the fewest ms for the wanted accuracy, until no longer order is faster at any accuracy than
    a shorter one.
    """
    level = [order([], main)]
    found = list(level)
    while level:
        longer = [
            order([*shorter.caches, cache], main)
            for shorter in level
            for cache in caches
            if cache not in shorter.caches
        ]
        found += longer
        if len(longer) > KEEP and not {id(one) for one, _ in front(found)} & {id(one) for one in longer}:
            break
        level = sorted(longer, key=lambda one: _least_ms(one, wanted))[:KEEP]
    return found


def _least_ms(one: Order, wanted: float) -> float:
    good = one.ms[one.accuracy >= wanted]
    return float(good.min()) if len(good) else np.inf


def front(orders: Sequence[Order]) -> list[tuple[Order, int]]:
    """The Pareto front of accuracy and ms, as (order, place in THRESHOLDS), from fast to accurate."""
    ms, accuracy = (np.concatenate([getattr(one, what) for one in orders]) for what in ("ms", "accuracy"))
    by_speed = np.lexsort((-accuracy, ms))
    best = np.maximum.accumulate(np.append(-1.0, accuracy[by_speed]))
    kept = by_speed[accuracy[by_speed] > best[:-1]]
    return [(orders[i // len(THRESHOLDS)], int(i % len(THRESHOLDS))) for i in kept]


def perfect_routing(stages: Sequence[StageModel]) -> tuple[float, float]:
    """Lower bound: (accuracy, ms) where each photo is shown only to the fastest model that is right on it, if any is."""
    alone = [stage.decode + stage.prepare + stage.infer for stage in stages]
    by_speed = np.argsort(alone)
    right = np.array([stages[k].right for k in by_speed])
    any_right = right.any(axis=0)
    first = np.where(any_right, right.argmax(axis=0), 0)
    return float(any_right.mean()), float(np.array(alone)[by_speed][first].mean())


def best_next(chosen: Order, at: int, caches: Sequence[Predictions], tables: Sequence[Predictions]) -> dict[str, Any]:
    """Oracle: what one more cache would bring if it were always right on its species and passed on all others.

    Its species are the most frequent ones that no cache of the design knows, as many as the largest of `caches` has; it
    is as fast as the fastest of them, and takes the best place in the order. tables: those of the design.
    """
    species = tables[-1].rows["species"]
    known = {name for table in tables[:-1] for name in table.labels.names}
    window = [name for name in species.value_counts().index if name not in known]
    window = window[: max(len(table.labels) for table in caches) - 1]
    space = species_space(tables)
    mine = np.isin(truth_ids(species.tolist(), space), truth_ids(window, space))
    fastest = min(caches, key=lambda table: float(table.rows["infer_ms"].median()))
    infer, prepare, decode = fastest.rows[["infer_ms", "preprocess_ms", "decode_ms"]].median()
    geometry = Recipe.from_dict(fastest.card["recipe"]).geometry
    oracle = StageModel("oracle", geometry, mine, np.where(mine, 0, len(THRESHOLDS)), infer, prepare, decode)
    tried = [
        order([*chosen.caches[:k], oracle, *chosen.caches[k:]], chosen.main) for k in range(len(chosen.caches) + 1)
    ]
    best = min(tried, key=lambda one: float(one.ms[at]))
    return {"stages": best.names, "species": window, **figures(best, at)}


def figures(one: Order, at: int) -> dict[str, float]:
    """The figures of a design."""
    reached = float(one.found.reach[-1, at] / one.found.photos)
    return {"accuracy": float(one.accuracy[at]), "ms": float(one.ms[at]), "communication_rate": reached}
