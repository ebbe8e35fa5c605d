"""Linear warm-up, then a cosine to zero."""

from __future__ import annotations

import pytest

from pipeline.training.schedule import warmup_cosine


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (40, 0.75), (55, 0.5), (70, 0.25), (100, 0.0)],
)
def test_known_values_of_100_steps_with_10_to_warm_up(step: int, factor: float) -> None:
    assert warmup_cosine(step, 100, 10) == pytest.approx(factor)


def test_without_warm_up_it_starts_at_the_full_rate() -> None:
    assert warmup_cosine(0, 10, 0) == 1
    assert warmup_cosine(5, 10, 0) == pytest.approx(0.5)


def test_rate_rises_once_then_falls_and_every_step_learns() -> None:
    factors = [warmup_cosine(step, 50, 7) for step in range(50)]
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert min(factors) > 0


def test_warm_up_as_long_as_the_training_does_not_divide_by_zero() -> None:
    assert warmup_cosine(4, 5, 5) == 1
    assert warmup_cosine(5, 5, 5) == 1
