"""The averaged weights are what the formula says."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.training.average import Average


def test_average_follows_its_formula_step_by_step() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    average = Average(network, decay=0.15)
    expected = 0.0
    for step, value in enumerate([1.0, 2.0, 4.0]):
        nn.init.constant_(network.weight, value)
        average.update(network)
        keep = min(0.15, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * value
        assert average.network.weight.item() == torch.tensor(expected).item()


def test_average_takes_batch_statistics_in_and_counts_along() -> None:
    network = nn.BatchNorm1d(2)
    average = Average(network, decay=0.9)
    network.train()(torch.tensor([[0.0, 10.0], [2.0, 30.0]]))
    average.update(network)
    assert average.network.num_batches_tracked == network.num_batches_tracked == 1
    assert torch.allclose(average.network.running_mean, 0.9 * network.running_mean)
    assert not average.network.training and network.training


def test_average_does_not_change_the_network_it_averages() -> None:
    network = nn.Linear(2, 2)
    before = network.weight.detach().clone()
    Average(network, decay=0.5).update(network)
    assert torch.equal(network.weight, before) and network.weight.requires_grad
