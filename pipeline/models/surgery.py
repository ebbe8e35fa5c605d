"""Remove channels and all that depends on them from a network; the same again when a pruned model is loaded.

The dependencies are found by Torch-Pruning (Fang et al., "DepGraph", CVPR 2023) on a forward pass.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch_pruning
from torch import nn

from pipeline.errors import ModelError

Removed = list[tuple[str, list[int]]]  # layer, indices of its removed output channels, as numbered before this step


def dependencies(network: nn.Module, size: int) -> Any:
    """Torch-Pruning's dependency graph of a network in eval mode, for inputs (n, 3, size, size)."""
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.filterwarnings("ignore", message="Unwrapped parameters")  # layer scale: its channels are its last axis
        example = torch.zeros(1, 3, size, size).to(next(network.parameters()))
        return torch_pruning.DependencyGraph().build_dependency(network, example_inputs=example)


def remove(network: nn.Module, size: int, removed: Removed) -> None:
    """Remove the output channels of these layers in place, with everything that is added to, scales or reads them."""
    graph = dependencies(network, size)
    modules = dict(network.named_modules())
    for layer, channels in removed:
        module = modules.get(layer)
        if not isinstance(module, (nn.Conv2d, nn.Linear)):
            raise ModelError(
                f"the pruning history names {layer!r}, which is no convolution or linear layer of this network"
            )
        found = graph.get_out_channels(module)
        if not (channels and len(set(channels)) == len(channels) and 0 <= min(channels) <= max(channels) < found):
            raise ModelError(f"the pruning history takes channels from {layer} that its {found} channels do not have")
        group = graph.get_pruning_group(module, graph.get_pruner_of_module(module).prune_out_channels, channels)
        if not graph.check_pruning_group(group):
            raise ModelError(f"the pruning history would leave no channel in {layer} or a layer that depends on it")
        group.prune()


def replay(network: nn.Module, size: int, history: Sequence[dict[str, Any]]) -> None:
    """Prune a freshly built network as the steps of a history (ModelCard.pruning) did, in place."""
    for step in history:
        try:
            removed = [(str(layer), [int(channel) for channel in channels]) for layer, channels in step["removed"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"this is no step of a pruning history: {str(step)[:100]}") from error
        remove(network, size, removed)
