"""Groups, clipping and accumulation do what they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pipeline.training.optimisation import Optimisation, groups

from .conftest import network, settings

HEAD = ("6.",)


def made(net: nn.Module, batches: int = 4, **changes: Any) -> Optimisation:
    given = {"warmup_epochs": 0, "schedule": {"name": "step"}, "lr": 0.5, **changes}
    return Optimisation(net, HEAD, settings(**given), batches, "cpu")


def test_parts_of_the_network_have_their_own_rates() -> None:
    given = settings(lr=1.0, weight_decay=0.1, optimizer={"lr_factors": {"backbone": 0.1, "0.": 0.5}})
    found = {
        id(p): (group["lr"], group["weight_decay"]) for group in groups(network(), HEAD, given) for p in group["params"]
    }
    assert len(found) == 6
    net = network()
    by_name = {id(p): name for name, p in net.named_parameters()}
    rates = {
        by_name[id(p)]: (group["lr"], group["weight_decay"])
        for group in groups(net, HEAD, given)
        for p in group["params"]
    }
    assert rates == {
        "0.weight": (0.5, 0.1), "0.bias": (0.5, 0.0), "1.weight": (0.1, 0.0), "1.bias": (0.1, 0.0),
        "6.weight": (1.0, 0.1), "6.bias": (1.0, 0.0),
    }  # fmt: skip


def test_what_a_network_of_timm_excepts_does_not_decay() -> None:
    class Placed(nn.Linear):
        def no_weight_decay(self) -> list[str]:
            return ["place"]

    net = Placed(2, 3)
    net.place = nn.Parameter(torch.zeros(1, 4, 2))
    found = {
        id(p): group["weight_decay"]
        for group in groups(net, ("fc",), settings(weight_decay=0.1))
        for p in group["params"]
    }
    assert [found[id(p)] for p in (net.weight, net.bias, net.place)] == [0.1, 0.0, 0.0]


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_optimizers_by_name(name: str, kind: type) -> None:
    assert type(made(network(), optimizer={"name": name}).optimizer) is kind


def test_clipping_limits_the_norm_of_the_whole_gradient() -> None:
    layer = nn.Linear(2, 1, bias=False)
    before = layer.weight.detach().clone()
    optimisation = made(layer, optimizer={"name": "sgd", "momentum": 0.0, "clip_norm": 1.0}, weight_decay=0)
    optimisation.backward((layer.weight * torch.tensor([[30.0, 40.0]])).sum(), 0)
    optimisation.step(0, 0)
    torch.testing.assert_close(before - layer.weight.detach(), 0.5 * torch.tensor([[0.6, 0.8]]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("batches", "steps"), [(4, [1, 3]), (5, [1, 3, 4])])
def test_accumulated_batches_are_one_step_of_their_mean(batches: int, steps: list[int]) -> None:
    layer = nn.Linear(1, 1, bias=False)
    sgd = {"name": "sgd", "momentum": 0.0, "accumulate": 2}
    optimisation = made(layer, batches, optimizer=sgd, weight_decay=0, lr=1.0)
    start = float(layer.weight.detach())
    for i in range(batches):
        optimisation.backward((layer.weight * (i + 1)).sum(), i)
        if optimisation.is_step(i):
            optimisation.step(0, i)
    assert [i for i in range(batches) if optimisation.is_step(i)] == steps
    moved = 1.5 + 3.5 + (5 if batches == 5 else 0)  # the last batch alone is its own mean
    assert start - float(layer.weight.detach()) == pytest.approx(moved, rel=1e-5)
    assert optimisation.per_epoch == len(steps)
