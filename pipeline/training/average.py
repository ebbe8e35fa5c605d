"""Exponential moving average of a network's weights, evaluated and kept in place of the last weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Average:
    """`network` holds decay * average + (1 - decay) * weights after every step; batch statistics are averaged too.

    The decay rises to its full value over the first steps, min(decay, (1 + step) / (10 + step)), so that the random
    start is soon forgotten (Tarvainen & Valpola, "Mean teachers are better role models", 2017; the ramp of TensorFlow's
    ExponentialMovingAverage).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Update with the weights of one step."""
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for mine, theirs in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - keep)
            else:
                mine.copy_(theirs)
