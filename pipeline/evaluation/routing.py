"""The cascade over stored predictions, by the routing rule of the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.edge.recipe import Geometry, Recipe
from pipeline.edge.rule import Rule
from pipeline.evaluation.predict import TIMES, Predictions, check_same_photos
from pipeline.labels import OTHER, LabelSpace, translate

Rules = Sequence[Rule | None]  # one per stage; None: the stage is off


@dataclass(frozen=True)
class Routed:
    """Per photo: the answer as an index of `labels` (-1: unknown), and the stage that answered or was asked last.

    on: per stage, whether it is asked at all; main: the index of main, -1 where the cascade has none. temperatures: of
    each stage's rule, by which its probabilities are told.
    """

    answers: NDArray[np.int64]
    stage: NDArray[np.int64]
    labels: LabelSpace
    on: tuple[bool, ...]
    main: int
    temperatures: tuple[float, ...]

    @property
    def sent_on(self) -> NDArray[np.bool_]:
        """Photos that reach main; without one, those that no cache answers: they wait for whoever knows more."""
        reached: NDArray[np.bool_] = self.stage == self.main if self.main >= 0 else self.answers < 0
        return reached

    def answered(self, stage: int) -> NDArray[np.bool_]:
        """Photos that the stage answers; one that nobody answers was only asked of the last."""
        mine: NDArray[np.bool_] = (self.stage == stage) & (self.answers >= 0)
        return mine

    def asked(self, stage: int) -> NDArray[np.bool_]:
        """Photos that reach the stage."""
        asked: NDArray[np.bool_] = (self.stage >= stage) & self.on[stage]
        return asked


def species_space(tables: Sequence[Predictions]) -> LabelSpace:
    """Every species that any stage can answer, in the order of main, then of the caches."""
    names = dict.fromkeys(name for table in reversed(tables) for name in table.labels.names if name != OTHER)
    return LabelSpace(tuple(names))


def route(tables: Sequence[Predictions], rules: Rules) -> Routed:
    """Let the stages answer in order, each by its rule; the last one must be on."""
    check_same_photos(tables)
    space, photos = species_space(tables), len(tables[0].rows)
    answers, stage = np.full(photos, -1, np.int64), np.full(photos, len(tables) - 1, np.int64)
    open_ = np.ones(photos, bool)
    for k, (table, rule) in enumerate(zip(tables, rules, strict=True)):
        if rule is None:
            continue
        score, p = rule.scores(table.logits, table.labels.names)
        hit = score >= rule.threshold
        now = open_ & hit
        answers[now] = translate(table.labels.names, space.names)[p.argmax(axis=1)[now]]
        stage[now] = k
        open_ &= ~hit
    main = -1 if tables[-1].labels.has_other else len(tables) - 1
    on, temperatures = zip(*((rule is not None, rule.temperature if rule else 1.0) for rule in rules), strict=True)
    return Routed(answers, stage, space, on, main, temperatures)


def at(tables: Sequence[Predictions], rules: Rules, threshold: float) -> Rules:
    """The same rules with another threshold for all caches; stages that are off are switched on."""
    caches = [table.labels.has_other for table in tables]
    return [
        replace(rule or Rule(), threshold=threshold) if cache else rule
        for cache, rule in zip(caches, rules, strict=True)
    ]


def truth_ids(species: Sequence[str], space: LabelSpace) -> NDArray[np.int64]:
    """Index of each true species in the space, -2 for one that no stage knows (never equal to an answer)."""
    ids = translate(species, space.names)
    return np.where(ids < 0, -2, ids)


def cascade_figures(tables: Sequence[Predictions], routed: Routed) -> dict[str, Any]:
    """Per stage: photos that it looks at (asked), share of all photos that it answers (hit_rate), accuracy of these answers
    and mean ms from the file to the answer of these photos, all stages before included; what reaches main; ms.

    communication_rate: share of photos that are sent on, see Routed; saving_rate = 1 - that; unknown_rate: share that
    nobody answers. ms_per_image adds, per photo, one decode and the preparation and inference of the stages that were asked,
    from the stored times (one thread); ms_per_image_main_alone is None where there is no main.
    """
    truth = truth_ids(tables[0].rows["species"].tolist(), routed.labels)
    right = routed.answers == truth
    stages, times = [], _times(tables, routed)
    for k, table in enumerate(tables):
        mine = routed.answered(k)
        accuracy, ms = (float(right[mine].mean()), float(times[mine].mean())) if mine.any() else (None, None)
        stages.append(
            {"name": table.name, "asked": int(routed.asked(k).sum()), "photos": int(mine.sum())}
            | {"hit_rate": float(mine.mean()), "accuracy": accuracy, "ms": ms}
        )
    communication = float(routed.sent_on.mean())
    alone = None if routed.main < 0 else float(tables[routed.main].rows[list(TIMES)].sum(axis=1).mean())
    return {
        "stages": stages,
        "communication_rate": communication,
        "saving_rate": 1 - communication,
        "unknown_rate": float((routed.answers < 0).mean()),
        "ms_per_image": float(times.mean()),
        "ms_per_image_main_alone": alone,
    }


def _times(tables: Sequence[Predictions], routed: Routed) -> NDArray[np.float64]:
    spent = tables[0].rows["decode_ms"].to_numpy().copy()
    prepared: dict[Geometry, NDArray[np.bool_]] = {}
    for k, table in enumerate(tables):
        asked, geometry = routed.asked(k), Recipe.from_dict(table.card["recipe"]).geometry
        ready = prepared.get(geometry, np.zeros(len(asked), bool))
        spent += asked * table.rows["infer_ms"].to_numpy() + (asked & ~ready) * table.rows["preprocess_ms"].to_numpy()
        prepared[geometry] = ready | asked
    return spent
