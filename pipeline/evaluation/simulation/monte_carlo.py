"""Monte Carlo simulation of days in the field by resampling stored predictions; no network runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from pipeline.errors import DataError
from pipeline.evaluation.scores import CELLS, Floats, Ids, Sample, score

LEAST = 1e-300  # weight of a species whose share of a wild mix is too small for a float: it comes last, but before none


@dataclass(frozen=True)
class Day:
    """How the photos of a run are drawn.

    species: index of each photo's species. mix: share of each species; none: every photo is equally likely. dirichlet:
    each run draws its own mix from Dirichlet(dirichlet * mix), whose mean is the mix; smaller values give more variable
    mixes; 0: the mix itself. every_species: one photo of each species of the mix first, as the predecessors drew; the
    rest by the mix.
    """

    species: Ids
    samples: int
    mix: Floats | None = None
    replacement: bool = True
    every_species: bool = False
    dirichlet: float = 0.0
    photos: Ids = field(init=False)  # per species

    def __post_init__(self) -> None:
        if not len(self.species):
            raise DataError("there are no photos to draw from; the part of the data set is empty")
        kinds = int(self.species.max()) + 1 if self.mix is None else len(self.mix)
        object.__setattr__(self, "photos", np.bincount(self.species, minlength=kinds))
        drawn = (self.photos > 0) & (self.shares > 0)
        if not drawn.any():
            raise DataError(
                "the mix of species leaves none that has a photo to draw; change monte_carlo.mix or .missing"
            )
        if self.every_species and self.samples < drawn.sum():
            raise DataError(
                f"{self.samples} samples cannot hold each of the {drawn.sum()} species once; set monte_carlo.samples to "
                f"at least {drawn.sum()}, or monte_carlo.every_species to false"
            )
        if not self.replacement and self.samples > (there := self.photos[drawn].sum()):
            raise DataError(
                f"{self.samples} samples cannot be drawn from {there} photos without replacement; lower "
                "monte_carlo.samples, or set monte_carlo.replacement to true"
            )

    @property
    def shares(self) -> Floats:
        """Share of each species; those without photos have none."""
        shares = self.photos / len(self.species) if self.mix is None else self.mix * (self.photos > 0)
        result: Floats = shares / max(shares.sum(), np.finfo(float).tiny)
        return result

    def draw(self, rng: np.random.Generator) -> Ids:
        """Indexes of the photos of one run."""
        if self.mix is None and self.replacement and not self.every_species and not self.dirichlet:
            return rng.integers(0, len(self.species), self.samples)
        shares = self.shares
        there = shares > 0
        if self.dirichlet:
            shares[there] = rng.dirichlet(self.dirichlet * shares[there])
        weight = (shares / np.maximum(self.photos, 1))[self.species]
        once = self._once(rng) if self.every_species else np.array([], np.int64)
        left = self.samples - len(once)
        if self.replacement:
            sums = np.cumsum(weight)
            return np.concatenate([once, np.searchsorted(sums, rng.random(left) * sums[-1], side="right")])
        # weighted, without replacement: the smallest of exponential times (Efraimidis & Spirakis, 2006)
        times = rng.exponential(size=len(weight)) / np.maximum(weight, LEAST)
        times[~there[self.species]] = np.inf
        times[once] = np.inf
        return np.concatenate([once, np.argsort(times, kind="stable")[:left]])

    def _once(self, rng: np.random.Generator) -> Ids:
        """One photo of every species of the mix."""
        wanted = np.flatnonzero((self.photos > 0) & (self.shares > 0))
        first = np.cumsum(self.photos) - self.photos
        place = first + np.floor(rng.random(len(self.photos)) * self.photos).astype(np.int64)
        result: Ids = np.argsort(self.species, kind="stable")[place[wanted]]
        return result


@dataclass(frozen=True)
class Simulation:
    """runs: one row per run, one column per figure, NaN where the run has no photo of it. drawn: how often each photo was
    drawn, over all runs."""

    runs: pd.DataFrame
    drawn: Floats


def simulate(sample: Sample, day: Day, runs: int, seed: int, cells: int = CELLS) -> Simulation:
    """Score `runs` days. Run r draws from the generator of (seed, r), so a figure depends neither on the chunk size nor
    on how many runs follow. cells: photos x runs held at a time.
    """
    n = len(sample.truth)
    rows = max(1, cells // n)
    parts, drawn = [], np.zeros(n)
    for first in range(0, runs, rows):
        chunk = range(first, min(first + rows, runs))
        weights = np.stack(
            [np.bincount(day.draw(np.random.default_rng([seed, run])), minlength=n) for run in chunk]
        ).astype(np.float64)
        drawn += weights.sum(axis=0)
        parts.append(pd.DataFrame(score(sample, weights, np.nan)))
    return Simulation(pd.concat(parts, ignore_index=True).rename_axis("run").reset_index(), drawn)


def summary(sample: Sample, found: Simulation) -> dict[str, dict[str, Any]]:
    """Per figure: mean over the runs with its interval, the range that holds 95 % of the runs, and the pooled figure.

    Runs that have no photo of a figure are no part of it; all is None where none has. One run has a mean alone; how far
    runs differ needs two or more, so its intervals and sd are None.
    """
    pooled = score(sample, found.drawn[None], np.nan)
    figures = {}
    for name in found.runs.columns.drop("run"):
        values = found.runs[name].dropna().to_numpy()
        told, mean_95, sd = spread(values), None, None
        if len(values) > 1:
            sd = float(values.std(ddof=1))
            half = float(half_width(sd, len(values)))
            mean_95 = [told["mean"] - half, told["mean"] + half]
        whole = float(pooled[name][0]) if len(values) else None
        figures[name] = {**told, "mean_95": mean_95, "sd": sd, "pooled": whole}
    return figures


def half_width(sd: Floats | float, runs: Ids | int) -> Floats:
    """Half of the 95 % interval of a mean over two runs or more of this standard deviation (Student, 1908)."""
    half: Floats = t.ppf(0.975, np.maximum(np.asarray(runs) - 1, 1)) * sd / np.sqrt(runs)
    return half


def spread(values: Floats | Ids) -> dict[str, Any]:
    """Mean of the runs and the range that holds 95 % of them; None for the range of a single one, and for all of none."""
    low, high = np.percentile(values, [2.5, 97.5]).tolist() if len(values) > 1 else (None, None)
    return {"mean": float(values.mean()) if len(values) else None, "low_95": low, "high_95": high}


def runs_enough(sd: float, within: float) -> int:
    """Number of runs for a 95 % interval of the mean within +- `within`, for runs of this standard deviation; two at least."""
    runs = max(2, int(np.ceil((norm.ppf(0.975) * sd / within) ** 2)))  # Student's interval needs a few more
    while half_width(sd, runs) > within:
        runs += 1
    return runs


def storage(rate: float, photo_kb: float, limit_mb: float, runs: int, seed: int) -> dict[str, Any]:
    """Number of photos a device can classify until those it must store (a share `rate` of all) fill limit_mb.

    looked_at: None where it keeps none, so that they never fill it.

    The count of looks until the m-th kept photo is negative binomial, so no photo needs to be drawn.
    """
    kept = int(np.ceil(limit_mb * 1024 / photo_kb))
    told: dict[str, Any] = {"limit_mb": limit_mb, "photo_kb": photo_kb, "kept": kept, "looked_at": None}
    if rate > 0:
        looked = kept + np.random.default_rng([seed, runs]).negative_binomial(kept, min(rate, 1.0), runs)
        told["looked_at"] = spread(looked)
    return told
