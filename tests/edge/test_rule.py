"""The rule: when a stage answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.edge.rule import KINDS, Rule, features, probabilities

LABELS = ("a", "b", "Other")
DEFERRAL: dict[str, Any] = {"kind": "deferral", "weights": (1.0, 2.0, -0.5, -1.0, 0.25)}


def hit(p: list[float], labels: tuple[str, ...], threshold: float) -> bool:
    score, _ = Rule(threshold).scores(np.log(np.maximum(p, 1e-300)), labels)
    return bool(score >= threshold)


def test_other_never_hits() -> None:
    assert not hit([0.1, 0.9], ("a", "Other"), 0.0)
    assert not hit([0.0, 1.0], ("a", "Other"), 1.0)


def test_threshold_is_inclusive() -> None:
    assert hit([0.5, 0.5], ("a", "b"), 0.5)
    assert not hit([0.5, 0.5], ("a", "b"), float(np.nextafter(0.5, 1)))
    assert hit([1.0, 0.0], ("a", "Other"), 1.0)


def test_without_other_the_threshold_alone_counts() -> None:
    assert hit([0.2, 0.8], ("a", "b"), 0.0)
    assert not hit([0.2, 0.8], ("a", "b"), 0.9)


def test_a_tie_takes_the_first_label() -> None:
    assert hit([0.5, 0.5], ("a", "Other"), 0.5)


@pytest.mark.parametrize("rule", [Rule(), Rule(kind="margin"), Rule(**DEFERRAL)], ids=lambda rule: rule.kind)
def test_no_number_never_hits(rule: Rule) -> None:
    with np.errstate(all="ignore"):
        score, _ = rule.scores(np.full(3, np.nan), ("a", "b", "c"))
    assert not score >= 0


def test_probabilities_are_stable_for_large_logits() -> None:
    p = probabilities(np.array([[1e4, 1e4 - 1, -1e4], [-3e38, -3e38, -3e38]], np.float32))
    assert np.isfinite(p).all()
    assert p.sum(1) == pytest.approx([1, 1])
    assert p[0, 0] == pytest.approx(1 / (1 + np.exp(-1)))
    assert p[1] == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("rule", [Rule(temperature=1.7), Rule(kind="margin"), Rule(**DEFERRAL)], ids=lambda r: r.kind)
def test_one_photo_and_many_give_the_same_numbers(rule: Rule) -> None:
    logits = np.random.default_rng(0).normal(0, 8, (50, 3)).astype(np.float32)
    score, p = rule.scores(logits, LABELS)
    single = [rule.scores(row, LABELS) for row in logits]
    assert np.array_equal(p, [q for _, q in single])
    assert score == pytest.approx(np.array([s for s, _ in single]), abs=1e-15)


def test_scores_by_hand() -> None:
    logits = np.log([0.6, 0.3, 0.1])
    assert Rule().scores(logits, LABELS)[0] == pytest.approx(0.6)
    assert Rule(kind="margin").scores(logits, LABELS)[0] == pytest.approx(0.3)
    root = np.sqrt([0.6, 0.3, 0.1])
    assert Rule(temperature=2).scores(logits, LABELS)[0] == pytest.approx(root[0] / root.sum())
    entropy = -sum(p * np.log(p) for p in (0.6, 0.3, 0.1))
    assert features(np.array([0.6, 0.3, 0.1]), LABELS) == pytest.approx([0.6, 0.3, entropy, 0.1])
    linear = 1.0 * 0.6 + 2.0 * 0.3 - 0.5 * entropy - 1.0 * 0.1 + 0.25
    assert Rule(**DEFERRAL).scores(logits, LABELS)[0] == pytest.approx(1 / (1 + np.exp(-linear)))
    assert features(np.array([0.6, 0.4]), ("a", "b"))[3] == 0


@pytest.mark.parametrize("rule", [Rule(), Rule(kind="margin"), Rule(**DEFERRAL)], ids=lambda rule: rule.kind)
def test_every_score_is_a_share(rule: Rule) -> None:
    logits = np.random.default_rng(1).normal(0, 30, (500, 3))
    score, p = rule.scores(logits, LABELS)
    other = p.argmax(axis=1) == 2
    assert (score[other] == -1).all()
    assert ((score[~other] >= 0) & (score[~other] <= 1)).all()


@pytest.mark.parametrize(
    "wrong", [{"kind": "luck"}, {"temperature": 0.0}, {"temperature": -1.0}, {"weights": (1.0,)}, {"kind": "deferral"}]
)
def test_what_is_no_rule(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no rule that this version knows"):
        Rule(**wrong)


def test_all_kinds_are_tested() -> None:
    assert set(KINDS) == {"confidence", "margin", "deferral"}
