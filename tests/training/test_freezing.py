"""What is frozen does not change at all, and what is opened later loses nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.errors import ModelError
from pipeline.sections.training import Freeze
from pipeline.training.freezing import freeze, train_mode
from pipeline.training.loop import train

from .conftest import CARD, network, sets, settings


def learning(epoch: int = 0, **given: Any) -> list[str]:
    net = network()
    names = [name for name, _ in net.named_parameters()]
    freeze(net, names, ("6.",), Freeze(**given), epoch)
    return [name for name, parameter in net.named_parameters() if parameter.requires_grad]


def test_names_prefixes_and_last_tensors_learn_as_told() -> None:
    whole = ["0.weight", "0.bias", "1.weight", "1.bias", "6.weight", "6.bias"]
    assert learning() == whole
    assert learning(frozen=["backbone"]) == whole[4:]
    assert learning(frozen=["0."]) == whole[2:]
    assert learning(train_last=3) == whole[3:]
    opening = {"frozen": ["backbone"], "unfreeze": {2: ["1."], 4: ["all"]}}
    assert [len(learning(epoch, **opening)) for epoch in (0, 1, 2, 3, 4, 9)] == [2, 2, 4, 4, 6, 6]


def test_what_the_network_itself_fixed_stays_fixed() -> None:
    net = network()
    net[0].weight.requires_grad_(False)
    freeze(
        net, [name for name, p in net.named_parameters() if p.requires_grad], ("6.",), Freeze(unfreeze={0: ["all"]}), 0
    )
    assert not net[0].weight.requires_grad


def test_misspelt_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"no parameter's name starts with 'layer4'; they start with 0, 1, 6"):
        learning(unfreeze={3: ["layer4"]})


def test_frozen_batch_normalisation_keeps_its_statistics() -> None:
    net = network()
    freeze(net, [name for name, _ in net.named_parameters()], ("6.",), Freeze(frozen=["backbone"]), 0)
    train_mode(net)
    assert (net.training, net[1].training, net[5].training) == (True, False, True)
    net(torch.randn(4, 3, 32, 32))
    assert net[1].num_batches_tracked == 0


def test_frozen_parameters_do_not_move_and_opened_ones_start_then(coloured: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, seen = network(), []

    def look(row: dict[str, float]) -> None:
        seen.append({name: tensor.clone() for name, tensor in net.state_dict().items()})

    first = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    given = settings(freeze={"frozen": ["0.", "1."], "unfreeze": {1: ["1."]}}, weight_decay=1.0)
    train(tmp_path, net, CARD, given, *sets(coloured), on_epoch=look)
    assert torch.equal(first["0.weight"], seen[2]["0.weight"])
    assert all(
        torch.equal(first[name], seen[0][name]) for name in ("1.weight", "1.running_mean", "1.num_batches_tracked")
    )
    assert not torch.equal(first["6.weight"], seen[0]["6.weight"])
    assert not torch.equal(first["1.weight"], seen[1]["1.weight"])
    state = torch.load(tmp_path / "last.pt", weights_only=True)["optimisation"]["optimizer"]["state"]
    steps = sorted(int(one["step"]) for one in state.values())
    assert steps == [10, 10, 15, 15]  # the classifier's state was kept when the normalisation joined; nothing of 0.


def test_layers_that_share_nothing_with_batch_normalisation_train() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    train_mode(net)
    assert net[1].training
