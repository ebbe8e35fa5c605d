"""The tests that stand behind the promise on accuracy: their errors are what they say, counted out and simulated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, multinomial

from pipeline.edge.rule import Rule
from pipeline.evaluation.choosing.choice import _within_target, accurate
from pipeline.evaluation.choosing.learning import learn_path
from pipeline.evaluation.choosing.promise import drop_needed, drop_p_value, last_accepted, most, photos_needed
from pipeline.evaluation.choosing.sweep import THRESHOLDS, place, right_answers, sweep_places
from pipeline.sections.evaluation import Route

from .tables import pair

# one test -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [0.0, 0.05, 0.15])
def test_a_true_drop_is_accepted_as_seldom_as_promised(allowed: float) -> None:
    """Every outcome of 30 photos, weighed with its probability where accuracy truly drops by what is allowed."""
    n, level = 30, 0.1
    outcomes = [(b, c) for b in range(n + 1) for c in range(n + 1 - b)]
    accepted = [(b, c, n - b - c) for b, c in outcomes if drop_p_value(b, c, n, allowed) <= level]
    assert accepted
    for better in (0.0, 0.02, 0.1, 0.3, 0.42):
        worse = better + allowed
        wrong = multinomial.pmf(accepted, n, [worse, better, 1 - worse - better]).sum()
        assert wrong <= level


def test_a_finer_look_at_the_unknown_rate_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [(0, 0, 300, 0.01), (4, 6, 400, 0.02), (20, 12, 1700, 0.01), (3, 0, 900, 0.01), (60, 40, 3000, 0.015)]
    coarse = [drop_p_value(*case) for case in cases]
    monkeypatch.setattr("pipeline.evaluation.choosing.promise.POINTS", 200)
    assert coarse == pytest.approx([drop_p_value.__wrapped__(*case) for case in cases], rel=2e-3)


def test_more_harm_is_less_sure_and_more_photos_are_surer() -> None:
    values = [drop_p_value(worse, 10, 1000, 0.02) for worse in (8, 12, 16, 20, 25, 30)]
    assert values == sorted(values)
    assert values[-1] == 1
    assert drop_p_value(5, 5, 400, 0.02) > drop_p_value(50, 50, 4000, 0.02)


def test_it_is_sharper_than_two_separate_limits() -> None:
    worse, better, n, allowed = 20, 12, 1700, 0.0125
    assert drop_p_value(worse, better, n, allowed) < 0.05
    assert most(worse, n, 0.025) - (1 - most(n - better, n, 0.025)) > allowed


def test_the_upper_limit_of_a_share_is_exact() -> None:
    assert binom.cdf(7, 50, most(7, 50, 0.05)) == pytest.approx(0.05)
    assert most(50, 50, 0.05) == 1


# a sequence of tests ------------------------------------------------------------------------------------------------


def test_the_sequence_stops_at_its_first_failure() -> None:
    assert last_accepted([3, 2, 1, 0], lambda i: i != 1) == 2
    assert last_accepted([3, 2], lambda i: True) == 2
    assert last_accepted([3, 2], lambda i: False) is None


# what it would take -------------------------------------------------------------------------------------------------


def test_what_it_would_take_is_enough_and_no_more() -> None:
    assert drop_p_value(0, 0, 100, 0.01) > 0.05
    photos = photos_needed(0, 0, 100, 0.01, 0.05)
    assert photos is not None
    assert drop_p_value(0, 0, photos, 0.01) <= 0.05
    assert drop_p_value(0, 0, int(photos / 1.2), 0.01) > 0.05
    allowed = drop_needed(2, 0, 100, 0.05)
    assert drop_p_value(2, 0, 100, allowed) <= 0.05 < drop_p_value(2, 0, 100, allowed - 0.001)


def test_no_number_of_photos_helps_where_the_drop_itself_is_too_large() -> None:
    assert photos_needed(30, 0, 1000, 0.01, 0.05) is None


# the promise --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("caches", "max_drop", "confidence"), [(1, 0.02, 0.95), (2, 0.03, 0.95), (1, 0.02, 0.8)])
def test_the_promise_is_broken_at_most_as_often_as_stated(caches: int, max_drop: float, confidence: float) -> None:
    """1,000 draws of 500 val photos from a large population, in which the true drop of each threshold is known."""
    settings, draws, photos = Route(max_drop=max_drop, confidence=confidence), 1000, 500
    tables = pair(caches, n=40_000, skill=1.8, caches=caches)
    right = right_answers(tables)
    places = [place(table, Rule()) for table in tables[:-1]]
    costs = np.ones(len(tables))
    truth = sweep_places(places, right[:-1], right[-1], costs)
    drop = (truth.worse - truth.better) / truth.photos
    assert drop[-1] > 1.5 * max_drop  # there is something to lose
    rng, broken, broken_by_plug_in, saved = np.random.default_rng(0), 0, 0, []
    for _ in range(draws):
        at = rng.integers(0, len(right[0]), photos)
        found = sweep_places([p[at] for p in places], [r[at] for r in right[:-1]], right[-1][at], costs)
        chosen = accurate(found, settings)
        broken += chosen is not None and drop[chosen] > max_drop
        saved.append(0.0 if chosen is None else 1 - truth.reach[-1, chosen] / truth.photos)
        fits = np.flatnonzero((found.worse - found.better) / photos <= max_drop)
        broken_by_plug_in += len(fits) > 0 and drop[fits[-1]] > max_drop
    assert broken / draws <= 1 - confidence
    assert broken_by_plug_in / draws > 0.3  # what the plain choice on val would do
    assert np.mean(saved) > 0.1


def test_the_promise_holds_for_thresholds_of_their_own() -> None:
    """As above; every 100 draws the order in which two thresholds fall is learnt from 500 other photos."""
    settings, draws, photos = Route(max_drop=0.03), 500, 500
    tables = pair(2, n=40_000, skill=1.8, caches=2)
    *right, main = right_answers(tables)
    costs, rng, broken, saved = np.ones(3), np.random.default_rng(0), 0, []
    for draw in range(draws):
        if draw % 100 == 0:
            learn = np.isin(np.arange(len(main)), rng.choice(len(main), photos, replace=False))
            path = learn_path([table.where(learn) for table in tables], [Rule()] * 2)
            steps = [np.searchsorted(path[:, k], place(tables[k], Rule())) for k in range(2)]
            truth = sweep_places(steps, right, main, costs, len(path))
            drop = (truth.worse - truth.better) / truth.photos
            assert drop[-1] > 1.5 * settings.max_drop
        at = rng.integers(0, len(main), photos)
        found = sweep_places([s[at] for s in steps], [r[at] for r in right], main[at], costs, len(path))
        chosen = accurate(found, settings)
        broken += chosen is not None and drop[chosen] > settings.max_drop
        saved.append(0.0 if chosen is None else 1 - truth.reach[-1, chosen] / truth.photos)
    assert broken / draws <= 1 - settings.confidence
    assert np.mean(saved) > 0.1


@pytest.mark.parametrize(("caches", "target"), [(1, "max_communication"), (2, "max_ms")])
def test_a_target_is_broken_at_most_as_often_as_stated(caches: int, target: str) -> None:
    """1,000 draws as above; the target is just below what one of the thresholds truly has, so half of the draws seem to
    keep it there."""
    draws, photos, settings = 1000, 500, Route(max_drop=0.04)
    tables = pair(caches, n=40_000, skill=3.0, caches=caches)
    right = right_answers(tables)
    places, costs = [place(table, Rule()) for table in tables[:-1]], np.array([1.0, *[2.0] * (caches - 1), 10.0])
    truth = sweep_places(places, right[:-1], right[-1], costs)
    true = truth.reach[-1] / truth.photos if target == "max_communication" else truth.ms
    middle = int(np.argmin(np.abs(true - (true[0] + true[-1]) / 2)))
    assert (truth.worse - truth.better)[middle] / truth.photos < settings.max_drop / 2
    limit = float(true[middle]) - 1e-9
    settings = settings.model_copy(update={target: limit})
    rng, broken, broken_by_plug_in, kept = np.random.default_rng(0), 0, 0, 0
    for _ in range(draws):
        at = rng.integers(0, len(right[0]), photos)
        found = sweep_places([p[at] for p in places], [r[at] for r in right[:-1]], right[-1][at], costs)
        seen = found.reach[-1] / photos if target == "max_communication" else found.ms
        broken_by_plug_in += true[np.flatnonzero(seen <= limit)[0]] > limit
        step = accurate(found, settings)
        if step is None:
            continue
        chosen, told = _within_target(found, step, settings)
        if "are kept as surely" in told:
            kept += 1
            broken += true[chosen] > limit
    assert broken / draws <= 1 - settings.confidence
    assert kept / draws > 0.3
    assert broken_by_plug_in / draws > 0.3


def test_thresholds_fall_from_almost_sure_to_every_hit() -> None:
    assert (np.diff(THRESHOLDS) < 0).all()
    assert THRESHOLDS[0] > 0.9998
    assert THRESHOLDS[-1] == 0
