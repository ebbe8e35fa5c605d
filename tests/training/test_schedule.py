"""Each schedule's rates, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import ModelError
from pipeline.training.schedule import Schedule, warmup_cosine

from .conftest import settings


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


def rates(
    name: str, epochs: int = 4, steps: int = 5, losses: list[float] | None = None, **arguments: Any
) -> np.ndarray:
    """Rate of every step, (epochs, steps), from a base of 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    given = settings(epochs=epochs, lr=1.0, schedule={"name": name, "arguments": arguments}, warmup_epochs=1)
    schedule = Schedule(optimizer, given, steps)
    found = np.zeros((epochs, steps))
    for epoch in range(epochs):
        for step in range(steps):
            found[epoch, step] = optimizer.param_groups[0]["lr"]
            optimizer.step()
            schedule.after_step(epoch, step + 1)
        schedule.after_epoch((losses or [1.0] * epochs)[epoch])
    return found


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("step", {"step_size": 2, "gamma": 0.1}, [1, 1, 0.1, 0.1]),
        ("multi_step", {"milestones": [1, 3], "gamma": 0.5}, [1, 0.5, 0.5, 0.25]),
        ("exponential", {"gamma": 0.5}, [1, 0.5, 0.25, 0.125]),
        ("cosine", {"T_max": 4}, [1, 0.853553, 0.5, 0.146447]),
    ],
)
def test_schedules_by_epoch_keep_the_rate_within_one(
    name: str, arguments: dict[str, Any], expected: list[float]
) -> None:
    found = rates(name, **arguments)
    assert found == pytest.approx(np.repeat(np.array(expected)[:, None], 5, axis=1), abs=1e-6)


def test_plateau_falls_when_the_val_loss_does_not() -> None:
    found = rates("plateau", 5, losses=[1.0, 0.5, 0.6, 0.7, 0.8], patience=1, factor=0.1)
    assert found[:, 0] == pytest.approx([1, 1, 1, 1, 0.1])


def test_warm_restarts_count_epochs_not_steps() -> None:
    found = rates("warm_restarts", 6, T_0=2, T_mult=2)
    assert found[[0, 2], 0] == pytest.approx([1, 1])
    assert found[1, 0] == pytest.approx(0.5)
    assert (found[3:] < 1).all()
    assert (np.diff(found[:2].ravel()) < 0).all()


def test_one_cycle_and_warm_up_change_at_every_step_and_end_low() -> None:
    for name in ("one_cycle", "warmup_cosine"):
        found = rates(name).ravel()
        top = found.argmax()
        assert (np.diff(found[:top]) > 0).all() and (np.diff(found[top + 1 :]) < 0).all()
        assert found[-1] < 0.05
    assert rates("warmup_cosine").ravel() == pytest.approx([warmup_cosine(step, 20, 5) for step in range(20)])


def test_cyclic_goes_up_and_down_by_steps() -> None:
    found = rates("cyclic", step_size_up=4).ravel()
    assert found[[0, 4, 8, 12]] == pytest.approx([0.1, 1, 0.1, 1])
    assert rates("cyclic")[[0, 2], 0] == pytest.approx([0.1, 1])
    assert rates("cyclic", epochs=2)[:, 0] == pytest.approx([0.1, 1])  # the top is within a short training, too


def test_unknown_argument_is_refused_with_the_schedules_name() -> None:
    with pytest.raises(ModelError, match=r"schedule step does not take \{'stepsize': 3\}: .*stepsize"):
        rates("step", stepsize=3)


def test_cycle_that_ends_before_the_training_is_refused() -> None:
    assert rates("one_cycle", total_steps=20)[-1, -1] < 0.05
    with pytest.raises(ModelError, match="one_cycle ends after 19 steps, the training after 20; leave total_steps out"):
        rates("one_cycle", total_steps=19)
