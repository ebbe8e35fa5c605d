"""Prepare a network for explanation: no in-place operations, activations that gradient rules support, its last feature map."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.edge.recipe import Recipe
from pipeline.errors import ModelError
from pipeline.evaluation.report.channels import is_map
from pipeline.models.deployable import Deployable

SMOOTH = (nn.GELU, nn.SiLU, nn.Hardswish, nn.Mish, nn.ELU)  # activations that are neither ReLU nor gates


class ClippedReLU(nn.ReLU):
    """ReLU6 as a subclass of ReLU, so that Captum recognises it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(0, 6)


def readable(network: nn.Module, recipe: Recipe) -> Deployable:
    """A copy of the network behind its scaling, from photos (n, size, size, 3) in 0..255, bytes or float, to logits."""
    model = Deployable(copy.deepcopy(network), recipe).eval().requires_grad_(False)
    for name, module in list(model.named_modules()):
        if hasattr(module, "inplace"):
            module.inplace = False
        if isinstance(module, nn.ReLU6):
            _put(model, name, ClippedReLU())
    return model


def outputs(model: Deployable, size: int) -> list[tuple[str, nn.Module, tuple[int, ...]]]:
    """The modules of one forward pass in order: name, module, and shape of its output."""
    seen: list[tuple[str, nn.Module, tuple[int, ...]]] = []

    def watch(name: str, module: nn.Module, output: object) -> None:
        if isinstance(output, Tensor):
            seen.append((name, module, tuple(output.shape)))

    with ExitStack() as hooks, torch.no_grad():
        for name, module in model.named_modules():
            hook = module.register_forward_hook(lambda module, _, output, name=name: watch(name, module, output))
            hooks.enter_context(hook)
        model(torch.zeros(1, size, size, 3))
    return seen


def last_map(model: Deployable, size: int) -> str:
    """Name of the layer with the last feature map before pooling, for Grad-CAM (Selvaraju et al., 2017).

    Found by watching one pass: the last module whose output is (1, channels, h, w) with h = w > 1, with no tokens
    (n, places, channels) after it. A network without one is a ModelError.
    """
    seen = [(name, shape) for name, _, shape in outputs(model, size)]
    places = [i for i, (_, shape) in enumerate(seen) if is_map(shape) and shape[2] > 1]
    if not places or any(_tokens(shape) for _, shape in seen[places[-1] + 1 :]):
        raise ModelError(
            "the network has no last feature map of channels over places, as a transformer has none; methods that look at "
            "the photo's pixels still work"
        )
    return seen[places[-1]][0]


def smooth_activations(model: Deployable) -> set[str]:
    """Kinds of activations in the network that have no "positive part"."""
    return {type(module).__name__ for module in model.modules() if isinstance(module, SMOOTH)}


def neutral(model: Deployable) -> Tensor:
    """The colour that the network's scaling maps to zero, (1, 1, 1, 3) in 0..255: the baseline photo."""
    return (-model.shift / model.scale).reshape(1, 1, 1, 3)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws of torch and of numpy's global generator (Captum asks both) follow from the seed; both are put back after."""
    state = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPU's too, which nothing puts back
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(state)


@contextmanager
def watched(model: Deployable, layer: str) -> Iterator[list[Tensor]]:
    """A list to which each pass through the model adds what one layer gives."""
    seen: list[Tensor] = []
    with model.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.append(output)):
        yield seen


def _tokens(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 or (len(shape) == 4 and shape[2] != shape[3])


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
