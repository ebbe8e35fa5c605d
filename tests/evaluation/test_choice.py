"""Rules chosen on val: what they keep, what they save, what they say when they cannot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.edge.rule import Rule, probabilities
from pipeline.errors import DataError, LabelSpaceError
from pipeline.evaluation.choosing.choice import Choice, choose
from pipeline.evaluation.choosing.learning import fit_temperature, learn_path, learn_rule, parts
from pipeline.evaluation.choosing.promise import drop_p_value
from pipeline.evaluation.choosing.sweep import THRESHOLDS, stage_costs, sweep
from pipeline.evaluation.predict import Predictions
from pipeline.evaluation.routing import at, cascade_figures, route, truth_ids
from pipeline.sections.evaluation import Route

from .tables import pair, table

KINDS: list[dict[str, Any]] = [
    {"rule": "confidence"},
    {"rule": "margin"},
    {"rule": "calibrated", "learn_share": 0.3},
    {"rule": "deferral", "learn_share": 0.3},
]


def right(tables: list[Predictions], choice: Choice) -> np.ndarray[Any, Any]:
    routed = route(tables, choice.rules)
    return np.asarray(routed.answers == truth_ids(tables[0].rows["species"].tolist(), routed.labels))


def sent_on(tables: list[Predictions], choice: Choice) -> float:
    return float(route(tables, choice.rules).sent_on.mean())


# what the sweep counts is what routing does -------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [Rule(), Rule(kind="margin"), Rule(temperature=2.0)], ids=str)
@pytest.mark.parametrize("caches", [1, 2, 3])
def test_the_sweep_is_the_cascade_at_every_threshold(caches: int, rule: Rule) -> None:
    tables = pair(caches, n=300, caches=caches)
    found = sweep(tables, [rule] * caches)
    main = tables[-1].logits.argmax(1) == tables[-1].labels.ids(tables[-1].rows["species"].tolist())
    for i in range(0, len(THRESHOLDS), 8):
        rules = at(tables, [rule] * caches + [Rule()], float(THRESHOLDS[i]))
        routed = route(tables, rules)
        good = right(tables, Choice(rules, ""))
        assert found.worse[i] == (main & ~good).sum()
        assert found.better[i] == (good & ~main).sum()
        assert found.reach[:, i].tolist() == [routed.asked(k).sum() for k in range(caches + 1)]
        assert found.ms[i] == pytest.approx(cascade_figures(tables, routed)["ms_per_image"])


@pytest.mark.parametrize("caches", [1, 2, 3])
def test_the_sweep_is_the_cascade_at_every_step_of_a_learnt_path(caches: int) -> None:
    learn, test = parts(pair(caches, n=600, caches=caches), 0.4, 0)
    rules = [Rule()] * caches
    path = learn_path(learn, rules)
    assert np.abs(np.diff(path, axis=0)).sum(axis=1).tolist() == [1] * (len(path) - 1)  # one cache, one place at a time
    assert path[-1].tolist() == [len(THRESHOLDS) - 1] * caches
    assert path.shape == (caches * len(THRESHOLDS), caches)
    found = sweep(test, rules, path)
    main = test[-1].logits.argmax(1) == test[-1].labels.ids(test[-1].rows["species"].tolist())
    for i in range(0, len(path), 17):
        own = [Rule(float(THRESHOLDS[at])) if at >= 0 else None for at in path[i]]
        good = right(test, Choice([*own, Rule()], ""))
        assert (found.worse[i], found.better[i]) == ((main & ~good).sum(), (good & ~main).sum())
        assert found.reach[-1, i] == route(test, [*own, Rule()]).sent_on.sum()


def test_the_sweep_counts_against_any_reference() -> None:
    *tables, reference = pair(5, n=600, caches=2)
    tables.append(pair(9, n=600)[-1])
    tables[-1].rows["species"] = reference.rows["species"]
    found = sweep(tables, [Rule()] * 2, reference=reference)
    good = right([reference], Choice([Rule()], ""))
    for i in range(0, len(THRESHOLDS), 17):
        mine = right(tables, Choice([*[Rule(float(THRESHOLDS[i]))] * 2, Rule()], ""))
        assert (found.worse[i], found.better[i]) == ((good & ~mine).sum(), (mine & ~good).sum())


def test_costs_are_medians_and_prepare_once_per_size() -> None:
    tables = pair(0, n=11, caches=2)
    tables[0].rows.loc[0, "infer_ms"] = 1e9  # a hiccup
    assert stage_costs(tables).tolist() == [2 + 1 + 5, 5, 5]


# the choice ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["rule"])
@pytest.mark.parametrize("seed", range(3))
def test_the_chosen_threshold_passes_and_the_next_one_fails(seed: int, kind: dict[str, Any]) -> None:
    settings = Route(max_drop=0.02, **kind)
    tables = pair(seed, n=2000, skill=2.2)
    choice = choose(tables, settings, seed)
    assert choice.chosen_on == "val"
    cache = choice.rules[0]
    assert cache is not None
    assert 0 < sent_on(tables, choice) < 1
    found = sweep(parts(tables, settings.learn_share, seed)[1], [cache])
    i = THRESHOLDS.tolist().index(cache.threshold)
    p = [drop_p_value(int(w), int(b), found.photos, 0.02) for w, b in zip(found.worse, found.better, strict=True)]
    assert max(p[: i + 1]) <= 0.05
    assert i + 1 == len(p) or p[i + 1] > 0.05
    assert f"at most 2 points less accurate than main ({found.photos} val photos" in choice.told


def test_a_threshold_of_its_own_saves_more_where_one_cache_is_surer_than_it_should_be() -> None:
    """Cache 1 errs often and is sure; with one threshold for both it must be high, so cache 0 answers little too."""
    tables = pair(3, n=6000, skill=3.0, caches=2)
    boaster = pair(4, n=6000, skill=0.5, caches=2)[1].logits * 4
    boaster[:, 2] += tables[1].logits[:, 2] * 2
    tables[1] = replace(tables[1], logits=boaster)
    settings = Route(max_drop=0.02, learn_share=0.3)
    one, own = (choose(tables, settings.model_copy(update={"own_thresholds": o}), 0) for o in (False, True))
    assert sent_on(tables, own) < sent_on(tables, one) - 0.1
    first, second = own.rules[:2]
    assert first is not None and (second is None or second.threshold > first.threshold)
    assert own.told.startswith(f"caches answer from scores of {first.threshold:.4g}, ")


def test_one_cache_has_its_own_threshold_anyway() -> None:
    tables, settings = pair(4, n=2000, skill=2.2), Route(max_drop=0.02, learn_share=0.3)
    own = settings.model_copy(update={"own_thresholds": True})
    assert choose(tables, own, 0).rules == choose(tables, settings, 0).rules


def test_more_allowance_or_less_confidence_save_more() -> None:
    tables = pair(3, n=2000)
    shares = [sent_on(tables, choose(tables, Route(max_drop=d), 0)) for d in (0.01, 0.02, 0.05, 0.3)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]
    sure, unsure = (sent_on(tables, choose(tables, Route(max_drop=0.01, confidence=c), 0)) for c in (0.99, 0.6))
    assert unsure <= sure


def test_a_perfect_cache_answers_all_that_it_knows() -> None:
    tables = pair(7, n=1000, skill=40.0)
    share = np.mean([name in ("s0", "s1") for name in tables[0].rows["species"]])
    assert sent_on(tables, choose(tables, Route(max_drop=0.01), 0)) == pytest.approx(1 - share)


def test_where_nothing_can_be_promised_the_caches_are_off_and_it_says_what_it_would_take() -> None:
    tables = pair(1, n=200, caches=2)
    choice = choose(tables, Route(max_drop=0.005), 0)
    assert list(choice.rules) == [None, None, Rule()]
    assert "the caches are OFF: no threshold keeps a drop of at most 0.5 points with 95% confidence" in choice.told
    assert "on 200 val photos; it would take about 1011 val photos or route.max_drop=0.024 (" in choice.told
    assert sent_on(tables, choice) == 1
    needed = float(choice.told.split("max_drop=")[1].split(" ")[0])
    assert choose(tables, Route(max_drop=needed), 0).rules[0] is not None


def test_no_drop_at_all_can_be_promised_of_a_cache_that_errs_as_often() -> None:
    choice = choose(pair(2, n=1000, skill=0.5), Route(max_drop=0), 0)
    assert choice.rules[0] is None
    assert "it would take route.max_drop=" in choice.told  # no number of photos would do


def test_a_useless_cache_is_off_for_all_but_its_surest_answers() -> None:
    tables = pair(6, n=1000, skill=-6.0)
    choice = choose(tables, Route(max_drop=0.02), 0)
    assert sent_on(tables, choice) > 0.97


def test_main_alone_needs_no_val() -> None:
    assert choose(pair(0)[1:], Route(), 0) == Choice([Rule()], "main alone")


def test_given_thresholds_are_taken_as_they_are() -> None:
    choice = choose(pair(0, caches=2), Route(threshold=0.7, rule="margin"), 0)
    assert list(choice.rules) == [Rule(0.7, "margin"), Rule(0.7, "margin"), Rule()]
    assert choice.chosen_on == "config"


def test_without_main_a_threshold_must_be_given() -> None:
    caches = pair(0, caches=2)[:2]
    with pytest.raises(LabelSpaceError, match="auto compares with main, which is no stage here; set it to a number"):
        choose(caches, Route(), 0)
    assert list(choose(caches, Route(threshold=0.6), 0).rules) == [Rule(0.6), Rule(0.6)]


@pytest.mark.parametrize("threshold", ["auto", 0.5])
def test_a_model_that_answers_all_stands_last(threshold: Any) -> None:
    cache, main = pair(0)
    pruned = replace(main, card={**main.card, "name": "main_p50"})
    for stages in ([pruned, cache, main], [pruned, main], [pruned, cache]):
        with pytest.raises(
            LabelSpaceError, match=r'main_p50 has no "Other", so it answers every photo .* put it last in'
        ):
            choose(stages, Route(threshold=threshold), 0)


def test_only_the_given_photos_choose() -> None:
    both = pair(5, n=1600)
    for t in both:
        t.rows.loc[800:, "split"] = "test"
    spoilt = [replace(t, logits=np.vstack([t.logits[:800], -t.logits[800:]])) for t in both]
    first, second = (choose([t.part("val") for t in tables], Route(max_drop=0.02), 0) for tables in (both, spoilt))
    assert first == second


# targets ------------------------------------------------------------------------------------------------------------


def test_a_communication_target_is_kept_with_the_least_loss() -> None:
    tables = pair(4, n=2000, skill=4.0)
    free = choose(tables, Route(max_drop=0.03), 0)
    bound = choose(tables, Route(max_drop=0.03, max_communication=0.8), 0)
    assert sent_on(tables, free) < sent_on(tables, bound) < 0.8
    assert sent_on(tables, bound) > 0.75  # and no lower than it must
    assert "are kept as surely" in bound.told


def test_a_target_in_ms_is_kept_with_the_least_loss() -> None:
    tables = pair(4, n=2000, skill=4.0)
    tables[-1].rows["infer_ms"] = 100.0  # 8 ms for decoding, preparing and the cache; so 70 ms leave 62 %
    bound = choose(tables, Route(max_drop=0.03, max_ms=70), 0)
    assert cascade_figures(tables, route(tables, bound.rules))["ms_per_image"] < 70
    assert 0.57 < sent_on(tables, bound) < 0.62


@pytest.mark.parametrize("target", [{"max_communication": 0.05}, {"max_ms": 3.0}])
def test_accuracy_goes_before_a_target(target: dict[str, float]) -> None:
    tables = pair(4, n=2000)
    choice = choose(tables, Route(max_drop=0.02, **target), 0)
    assert choice.rules == choose(tables, Route(max_drop=0.02), 0).rules
    assert "CANNOT be kept as well" in choice.told


# learning -----------------------------------------------------------------------------------------------------------


def test_val_is_parted_by_the_seed() -> None:
    tables = pair(0, n=100)
    learn, test = parts(tables, 0.3, 1)
    assert [len(t.rows) for t in (*learn, *test)] == [30, 30, 70, 70]
    assert learn[0].rows["image_path"].tolist() == learn[1].rows["image_path"].tolist()
    assert not set(learn[0].rows["image_path"]) & set(test[0].rows["image_path"])
    assert parts(tables, 0.3, 2)[0][0].rows["image_path"].tolist() != learn[0].rows["image_path"].tolist()
    assert len(parts(tables, 0.0, 1)[1][0].rows) == 100


def test_too_few_photos_to_learn_from() -> None:
    with pytest.raises(DataError, match="val has 2 photos, too few to learn a rule on 10% of them"):
        parts(pair(0, n=2), 0.1, 0)


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_what_sharpened_the_logits(factor: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 3))
    p = probabilities(logits)
    truth = (rng.random(4000)[:, None] > p.cumsum(axis=1)).sum(axis=1)
    names = ["a", "b", "Other"]
    assert fit_temperature(table([names[i] for i in truth], logits * factor, names, "cache")) == pytest.approx(
        factor, rel=0.08
    )


def test_a_deferral_rule_answers_where_the_cache_is_as_good_as_main() -> None:
    """A cache that errs only where it also sees something of "Other"; its best probability alone does not show that."""
    rng = np.random.default_rng(0)
    n = 4000
    other = rng.random(n) < 0.5
    p = np.where(other[:, None], [0.6, 0.02, 0.38], [0.6, 0.38, 0.02]) + rng.uniform(0, 0.01, (n, 3))
    species = np.where(other & (rng.random(n) < 0.7), "c", "a")
    cache = table(species.tolist(), np.log(p), ["a", "b", "Other"], "cache")
    main = table(species.tolist(), np.where(species[:, None] == ["a", "b", "c"], 9.0, 0.0), ["a", "b", "c"])
    score, _ = learn_rule(cache, main, "deferral").scores(cache.logits, cache.labels.names)
    assert score[~other].min() > score[other].max() + 0.3


def test_a_deferral_rule_needs_errors_to_learn_from() -> None:
    cache, main = pair(7, n=200, skill=40.0)
    with pytest.raises(DataError, match="a deferral rule cannot be learnt from them: raise route.learn_share"):
        learn_rule(cache, main, "deferral")
