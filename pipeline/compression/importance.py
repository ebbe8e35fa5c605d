"""Importance of channels: weight norm, first-order change of the loss, or share of active values."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_pruning import importance as library

from pipeline.errors import ModelError

Score = Callable[[Any], Tensor]  # a group of the dependency graph -> one figure per channel of its root layer
BATCH = 32


def importance(name: str, network: nn.Module, photos: Tensor | None, labels: Tensor | None, dead_below: float) -> Score:
    """l1, l2: mean norm of all weights that go with a channel, relative to the layer's mean (Torch-Pruning's defaults).
    taylor: |weight x gradient| of the cross-entropy (Molchanov et al., CVPR 2019). deadness: see `alive`.

    photos: (n, 3, s, s) as the network takes them, labels: (n,); only taylor and deadness look at them.
    """
    if name in ("l1", "l2"):
        score: Score = library.GroupMagnitudeImportance(p=int(name[1]))
        return score
    if photos is None or labels is None:
        raise ModelError(f"importance {name} needs photos of the train part")
    if name == "taylor":
        _gradients(network, photos, labels)
        score = library.GroupTaylorImportance()
        return score
    return _Alive(alive(network, photos, dead_below))


def alive(network: nn.Module, photos: Tensor, dead_below: float) -> dict[nn.Module, Tensor]:
    """For each convolution and linear layer the share of positions, over all photos, at which an input channel is not
    silent: |value| > dead_below. What a layer reads is what its predecessor says after normalisation and activation.
    """
    counts: dict[nn.Module, list[Tensor]] = {}

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        channels = 1 if isinstance(module, nn.Conv2d) else -1
        loud = (inputs[0].abs() > dead_below).float().movedim(channels, 0).flatten(1)
        counts.setdefault(module, []).append(loud.mean(1) * len(inputs[0]))

    with ExitStack() as hooks, torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                hooks.enter_context(module.register_forward_pre_hook(look))
        for batch in torch.split(photos, BATCH):
            network.eval()(batch)
    batches = -(-len(photos) // BATCH)  # a layer called k times per forward pass adds k entries per batch
    return {module: torch.stack(found).sum(0) / len(photos) * batches / len(found) for module, found in counts.items()}


class _Alive(library.GroupMagnitudeImportance):  # type: ignore[misc]
    """The mean share over the layers that read a channel; a share needs no scaling to be compared between layers."""

    def __init__(self, shares: dict[nn.Module, Tensor]) -> None:
        super().__init__(normalizer=None)
        self.shares = shares

    @torch.no_grad()
    def __call__(self, group: Any) -> Tensor:
        scores, roots = [], []
        for item in group:
            module, action = item.dep.target.module, item.dep.handler.__name__
            depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
            if module in self.shares and ("in_channels" in action or depthwise):
                scores.append(self.shares[module][item.idxs])
                roots.append(item.root_idxs)
        reduced: Tensor = self._reduce(scores, roots)
        return reduced


def _gradients(network: nn.Module, photos: Tensor, labels: Tensor) -> None:
    network.eval().zero_grad()
    with torch.enable_grad():
        for batch, truth in zip(torch.split(photos, BATCH), torch.split(labels, BATCH), strict=True):
            loss = functional.cross_entropy(network(batch), truth, reduction="sum") / len(photos)
            loss.backward()  # type: ignore[no-untyped-call]
