"""Fit rules on val: temperature, deferral, and the order in which thresholds are lowered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from pipeline.edge.rule import Rule, features, probabilities
from pipeline.errors import DataError
from pipeline.evaluation.choosing.sweep import THRESHOLDS, Places, place, right_answers
from pipeline.evaluation.predict import Predictions


def parts(tables: Sequence[Predictions], learn_share: float, seed: int) -> tuple[list[Predictions], list[Predictions]]:
    """A seeded split of the photos, the same for all tables: one part to fit on, the rest to test."""
    photos = len(tables[0].rows)
    order = np.random.default_rng(seed).permutation(photos)
    learns = np.zeros(photos, bool)
    learns[order[: round(learn_share * photos)]] = True
    if learn_share and not 0 < learns.sum() < photos:
        raise DataError(f"val has {photos} photos, too few to learn a rule on {learn_share:.0%} of them")
    return [table.where(learns) for table in tables], [table.where(~learns) for table in tables]


def learn_rule(cache: Predictions, main: Predictions, kind: str) -> Rule:
    """The rule of a cache, with threshold 0. kind: see Route.rule; the photos of both tables are those to learn on."""
    if kind in ("confidence", "margin"):
        return Rule(kind=kind)
    temperature = fit_temperature(cache)
    if kind == "calibrated":
        return Rule(temperature=temperature)
    if main.labels.has_other:
        raise DataError("a deferral rule compares with main, which is no stage here; set route.rule to calibrated")
    p = probabilities(cache.logits, temperature)
    mine, mains = right_answers([cache, main])
    harmless = mine | ~mains
    hit = p.argmax(axis=1) != len(cache.labels) - 1
    if len(set(harmless[hit])) < 2:
        raise DataError(
            f"{cache.name} is never or always right where main is, on {hit.sum()} val photos; a deferral rule cannot be "
            "learnt from them: raise route.learn_share, or set route.rule to calibrated"
        )
    model = LogisticRegression(C=10.0).fit(features(p[hit], cache.labels.names), harmless[hit])
    weights = [*model.coef_[0], model.intercept_[0]]
    return Rule(kind="deferral", temperature=temperature, weights=tuple(round(float(w), 6) for w in weights))


def fit_temperature(table: Predictions) -> float:
    """The temperature with the least negative log-likelihood (Guo et al., On calibration ..., 2017)."""
    truth = table.labels.ids(table.rows["species"].tolist())
    logits = table.logits.astype(np.float64)
    own = logits[np.arange(len(truth)), truth]

    def loss(log_temperature: float) -> float:
        t = np.exp(log_temperature)
        return float((logsumexp(logits / t, axis=1) - own / t).mean())

    return round(float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)), 6)


def learn_path(tables: Sequence[Predictions], caches: Sequence[Rule]) -> Places:
    """A path with a threshold per cache; tables: caches in order, then main, on the photos to fit on.

    From all caches off, the threshold falls of that cache whose further answers do least harm (main right, the answer
    wrong; less the other way round) per photo that main is spared, place by place, as far as that is so; and so on, until
    every cache answers every hit. Learnt from other photos than those that are tested on, the path may be walked by a
    sequence of tests (Laufer-Goldshtein, Fisch, Barzilay & Jaakkola, Efficiently controlling multiple risks with Pareto
    testing, 2023).
    """
    *right, main = right_answers(tables)
    harms = [main.astype(int) - mine for mine in right]
    places = [place(table, rule) for table, rule in zip(tables[:-1], caches, strict=True)]
    now, path = np.full(len(caches), -1), []
    while (now < len(THRESHOLDS) - 1).any():
        k, last = _cheapest(harms, places, now)
        for at in range(now[k] + 1, last + 1):
            now[k] = at
            path.append(now.copy())
    return np.array(path)


def _cheapest(
    harms: Sequence[NDArray[np.int64]], places: Sequence[NDArray[np.int64]], now: NDArray[np.int64]
) -> tuple[int, int]:
    """The cache and the place to which its threshold falls at the least harm per spared photo; where none spares any,
    the first cache that does not answer every hit yet does so."""
    answers = [mine <= at for mine, at in zip(places, now, strict=True)]
    found = []
    for k, (harm, mine) in enumerate(zip(harms, places, strict=True)):
        new = ~np.any(answers[: k + 1], axis=0) & (mine < len(THRESHOLDS))
        harm_now = np.zeros(len(mine), int)  # of the later stage that answers the photo so far; main does none
        for later in range(len(harms) - 1, k, -1):
            harm_now = np.where(answers[later], harms[later], harm_now)
        spared = ~np.any([np.zeros(len(mine), bool), *answers[k + 1 :]], axis=0)
        more, photos = (
            np.cumsum(np.bincount(mine[new], values[new], len(THRESHOLDS)))[now[k] + 1 :]
            for values in (harm - harm_now, spared)
        )
        rate = np.divide(more, photos, out=np.full(len(more), np.inf), where=photos > 0)
        if len(rate) and np.isfinite(best := rate.min()):
            last = int(np.flatnonzero(rate == best)[-1])
            found.append((float(best), -float(photos[last]), k, int(now[k]) + 1 + last))
    return min(found)[2:] if found else (int((now < len(THRESHOLDS) - 1).argmax()), len(THRESHOLDS) - 1)
