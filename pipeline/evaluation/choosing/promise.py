"""Finite-sample guarantees from val: exact tests, and the fixed sequence in which they are applied."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TypeVar

import numpy as np
from scipy.stats import binom

from pipeline.evaluation.scores import clopper_pearson

T = TypeVar("T")
NUISANCE = 0.001  # the part of the error spent on the unknown rate of disagreement
POINTS = 8  # grid points in its interval; the largest p value lies at or beside the upper end


@lru_cache(maxsize=100_000)
def drop_p_value(worse: int, better: int, photos: int, allowed: float) -> float:
    """p value: probability of so good a paired result where accuracy truly drops by `allowed` or more.

    worse: photos on which main is right and the cascade wrong; better: the other way round; 0 <= allowed < 1. The two
    counts and the rest are trinomial, so worse - better is tested exactly; the unknown rate of disagreement runs over
    its Clopper-Pearson interval, whose own error is added (Berger & Boos, P values maximized over a confidence set for
    the nuisance parameter, 1994; for paired proportions: Suissa & Shuster, 1991).
    """
    gain, disagree = worse - better, worse + better
    if gain >= allowed * photos:
        return 1.0
    low, high = clopper_pearson(disagree, photos, NUISANCE)
    rate = np.linspace(max(low, allowed, 1e-12), max(high, allowed), POINTS)[:, None]  # worse - better needs as much
    counts = np.arange(binom.ppf(1e-8, photos, rate.min()), binom.ppf(1 - 1e-8, photos, rate.max()) + 1)
    as_good = binom.cdf(np.floor((gain + counts) / 2), counts, np.minimum(1, (1 + allowed / rate) / 2))
    return min(1.0, float((binom.pmf(counts, photos, rate) * as_good).sum(axis=1).max()) + NUISANCE)


@lru_cache(maxsize=100_000)
def most(count: int, photos: int, error: float) -> float:
    """Upper limit of a share of which `count` of `photos` were seen, wrong with probability `error` (Clopper & Pearson)."""
    return clopper_pearson(count, photos, 2 * error)[1]


def last_accepted(candidates: Iterable[T], accepts: Callable[[T], bool]) -> T | None:
    """Fixed-sequence testing: continue while tests accept; the last accepted one, or none if the first fails.

    The order must not depend on the photos tested on. Then every accepted candidate keeps its promise at once with the
    level of a single test (Angelopoulos, Bates, Candes, Jordan & Lei, Learn then test, 2021).
    """
    last = None
    for candidate in candidates:
        if not accepts(candidate):
            break
        last = candidate
    return last


def photos_needed(worse: int, better: int, photos: int, allowed: float, error: float) -> int | None:
    """Number of val photos with which the test would accept at this rate of disagreement; None: over a million."""
    times = 1.0
    while drop_p_value(round(worse * times), round(better * times), math.ceil(photos * times), allowed) > error:
        times *= 1.1
        if photos * times > 1e6:
            return None
    return math.ceil(photos * times)


def drop_needed(worse: int, better: int, photos: int, error: float) -> float:
    """The smallest allowance, in thousandths, that the test accepts with these photos."""
    low, high = 0, 1000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if drop_p_value(worse, better, photos, middle / 1000) <= error else (middle, high)
    return high / 1000
