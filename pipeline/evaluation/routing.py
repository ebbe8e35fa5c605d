"""The cascade over stored predictions, by the very rule that runs on the device; and the choice of its thresholds on val."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.edge.cascade import hits, probabilities
from pipeline.edge.labels import translate
from pipeline.errors import LabelSpaceError
from pipeline.evaluation.predict import TIMES, Predictions, check_same_photos
from pipeline.labels import OTHER, LabelSpace

NEVER = 2.0  # a threshold that no probability reaches
GRID = 1_000_000  # thresholds are whole parts of it, so that rounding elsewhere sends no photo another way


@dataclass(frozen=True)
class Routed:
    """Per photo: the answer as an index of `labels` (-1: unknown), and the stage that answered."""

    answers: NDArray[np.int64]
    stage: NDArray[np.int64]
    labels: LabelSpace


def species_space(tables: Sequence[Predictions]) -> LabelSpace:
    """Every species that some stage can answer, in the order of main, then of the caches."""
    names = dict.fromkeys(name for table in reversed(tables) for name in table.labels.names if name != OTHER)
    return LabelSpace(tuple(names))


def route(tables: Sequence[Predictions], thresholds: Sequence[float]) -> Routed:
    """Let the stages answer in order; thresholds has one entry per stage (main: 0)."""
    check_same_photos(tables)
    return _route(
        [probabilities(t.logits) for t in tables], [t.labels for t in tables], thresholds, species_space(tables)
    )


def _route(
    p: Sequence[NDArray[np.float64]], labels: Sequence[LabelSpace], thresholds: Sequence[float], space: LabelSpace
) -> Routed:
    answers = np.full(len(p[0]), -1, np.int64)
    stage = np.full(len(p[0]), len(p) - 1, np.int64)
    open_ = np.ones(len(p[0]), bool)
    for k, (probability, names, threshold) in enumerate(zip(p, labels, thresholds, strict=True)):
        hit, best = hits(probability, names.names, threshold)
        now = open_ & hit
        answers[now] = translate(names.names, space.names)[best[now]]
        stage[now] = k
        open_ &= ~hit
    return Routed(answers, stage, space)


def truth_ids(species: Sequence[str], space: LabelSpace) -> NDArray[np.int64]:
    """Index of each true species in the space, -2 for one that no stage knows (never equal to an answer)."""
    ids = translate(species, space.names)
    return np.where(ids < 0, -2, ids)


def choose_thresholds(tables: Sequence[Predictions], max_drop: float) -> list[float]:
    """Thresholds that send least to main while accuracy on these photos stays within max_drop of main's alone.

    tables: predictions on VAL. The caches are taken in order, each with the later ones switched off; where no threshold
    keeps the accuracy, the cache is left with the most accurate one. Main, the last stage, always answers: 0.
    """
    check_same_photos(tables)
    if OTHER in tables[-1].labels.names:
        raise LabelSpaceError("thresholds are chosen against a main model, but the last stage is a cache")
    space = species_space(tables)
    truth = truth_ids(tables[-1].rows["species"].tolist(), space)
    right = [translate(t.labels.names, space.names)[t.logits.argmax(1)] == truth for t in tables]
    now, open_, chosen = right[-1].copy(), np.ones(len(truth), bool), []
    for table, mine in zip(tables[:-1], right[:-1], strict=True):
        p = probabilities(table.logits)
        can, _ = hits(p, table.labels.names, 0.0)
        sure = np.where(open_ & can, np.floor(p.max(axis=1) * GRID) / GRID, -1.0)
        chosen.append(_choose(sure, mine, now, right[-1].mean() - max_drop))
        answered = open_ & hits(p, table.labels.names, chosen[-1])[0]
        now[answered], open_ = mine[answered], open_ & ~answered
    return [*chosen, 0.0]


def _choose(sure: NDArray[np.float64], mine: NDArray[np.bool_], now: NDArray[np.bool_], wanted: float) -> float:
    """The lowest threshold with at least the wanted accuracy; sure: below 0 where the cache cannot answer.

    mine, now: per photo, whether the cache's answer is right, and the answer that it would replace.
    """
    order = np.argsort(-sure, kind="stable")[: int((sure >= 0).sum())]
    last = np.flatnonzero(np.diff(sure[order], append=-1.0))  # of the photos that share a threshold
    gain = np.cumsum(mine[order].astype(int) - now[order].astype(int))[last]
    options, accuracy = sure[order][last], (now.sum() + gain) / len(now)
    if not len(options) or options[0] < 1:  # 1 switches the cache off, but for photos of which it is as sure as that
        options, accuracy = np.append(1.0, options), np.append(now.mean(), accuracy)
    kept = np.flatnonzero(accuracy >= wanted - 1e-12)
    return float(options[kept[-1] if len(kept) else accuracy.argmax()])


def cascade_figures(tables: Sequence[Predictions], routed: Routed) -> dict[str, Any]:
    """Per stage: share of all photos that it answers (hit_rate), accuracy of these answers; what reaches main; ms.

    communication_rate: share of photos that reach the last stage; saving_rate = 1 - that. ms_per_image adds, per photo,
    one decode and the preparation and inference of the stages that were asked, from the stored times (one thread).
    """
    truth = truth_ids(tables[0].rows["species"].tolist(), routed.labels)
    right = routed.answers == truth
    stages = []
    for k, table in enumerate(tables):
        mine = routed.stage == k
        accuracy = float(right[mine].mean()) if mine.any() else None
        stages.append(
            {"name": table.name, "photos": int(mine.sum()), "hit_rate": float(mine.mean()), "accuracy": accuracy}
        )
    communication = float((routed.stage == len(tables) - 1).mean())
    return {
        "stages": stages,
        "communication_rate": communication,
        "saving_rate": 1 - communication,
        "ms_per_image": float(_times(tables, routed).mean()),
        "ms_per_image_main_alone": float(tables[-1].rows[list(TIMES)].sum(axis=1).mean()),
    }


def _times(tables: Sequence[Predictions], routed: Routed) -> NDArray[np.float64]:
    spent = tables[0].rows["decode_ms"].to_numpy().copy()
    prepared: set[str] = set()
    for k, table in enumerate(tables):
        asked = routed.stage >= k
        spent += asked * table.rows["infer_ms"].to_numpy()
        if table.card["recipe_hash"] not in prepared:
            spent += asked * table.rows["preprocess_ms"].to_numpy()
            prepared.add(table.card["recipe_hash"])
    return spent
