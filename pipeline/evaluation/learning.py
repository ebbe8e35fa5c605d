"""What a rule learns from val: the temperature, and when to defer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from pipeline.edge.rule import Rule, features, probabilities
from pipeline.errors import DataError
from pipeline.evaluation.predict import Predictions
from pipeline.evaluation.sweep import right_answers


def parts(tables: Sequence[Predictions], learn_share: float, seed: int) -> tuple[list[Predictions], list[Predictions]]:
    """The same photos for all tables, drawn from the seed: one part to learn on, the rest to test what was learnt."""
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
