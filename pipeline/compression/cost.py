"""Cost of a network: multiply-accumulates, parameters and memory of activations, counted in one forward pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.module_tracker import ModuleTracker


@dataclass(frozen=True)
class Cost:
    """One photo through a network.

    macs: multiply-accumulates of convolutions, linear layers and attention. activation_bytes: all feature maps, each
    counted once. peak_bytes: the largest sum of those that are needed at the same time (see `layers`), at the element
    size of their type; an int8 engine needs one byte per element, which is peak_elements.
    """

    macs: int
    parameters: int
    activation_bytes: int
    peak_bytes: int
    peak_elements: int


@dataclass
class _Map:
    """A feature map in memory, from the operator that writes it to the last one that reads it; -1: the input."""

    bytes: int
    elements: int
    first: int
    last: int


@dataclass(frozen=True)
class _Step:
    """One operator of the forward pass. A place is the memory address of a tensor."""

    layer: str
    name: str
    shape: tuple[int, ...]
    macs: int
    inputs: dict[int, tuple[int, int]]  # place: bytes, elements
    output: tuple[int, int, int]  # place, bytes, elements
    keeps_shape: bool
    depthwise: bool


def cost(network: nn.Module, size: int, depthwise_in_place: bool = False) -> Cost:
    """Totals for one photo of `size` px. depthwise_in_place: as engines for micro-controllers do (see `layers`)."""
    steps = _run(network, torch.zeros(1, 3, size, size))
    maps = _maps(steps, depthwise_in_place)
    now = [[found for found in maps if found.first <= i <= found.last] for i in range(len(steps))]
    return Cost(
        macs=sum(step.macs for step in steps),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        activation_bytes=sum(found.bytes for found in maps if found.first >= 0),
        peak_bytes=max(sum(found.bytes for found in live) for live in now),
        peak_elements=max(sum(found.elements for found in live) for live in now),
    )


def profile(network: nn.Module, inputs: Sequence[Tensor]) -> tuple[int, int]:
    """MACs and parameters, called like `thop.profile`; that one also counts normalisation, which inference folds away."""
    return sum(step.macs for step in _run(network, *inputs)), sum(p.numel() for p in network.parameters())


def layers(network: nn.Module, size: int) -> pd.DataFrame:
    """One row per layer in the order of execution: layer, operator, shape, parameters, macs, bytes, live_bytes.

    bytes: the feature map that it makes; none for what works in place. live_bytes: all that is in memory while it runs.
    The count follows the tensors of a real forward pass. A feature map lives from the step that makes it to the last one
    that reads it; views and the padding of a convolution cost nothing; a step that keeps the shape (normalisation,
    activation, addition, scaling) writes over an input that nobody reads later, as inference engines do; engines for
    micro-controllers let depthwise convolutions do so too (Lin et al., "MCUNet", 2020). Weights are not counted.
    """
    steps = _run(network, torch.zeros(1, 3, size, size))
    maps = _maps(steps)
    modules = dict(network.named_modules())
    rows: list[dict[str, Any]] = []
    told: set[str] = set()
    for layer, run in groupby(enumerate(steps), key=lambda pair: pair[1].layer):
        at, parts = zip(*run, strict=True)
        module = modules[layer]
        leaf = not any(True for _ in module.children())
        row = {
            "layer": layer,
            "operator": type(module).__name__ if leaf else "+".join(part.name for part in parts if part.output[1]),
            "shape": parts[-1].shape,
            "parameters": 0 if layer in told else sum(p.numel() for p in module.parameters(recurse=False)),
            "macs": sum(part.macs for part in parts),
            "bytes": sum(found.bytes for found in maps if found.first in at),
            "live_bytes": max(sum(found.bytes for found in maps if found.first <= i <= found.last) for i in at),
        }
        told.add(layer)
        rows.append(row)
    table = pd.DataFrame(rows)
    return table[(table[["parameters", "macs", "bytes"]] > 0).any(axis=1)].reset_index(drop=True)


def compare(first: nn.Module, second: nn.Module) -> pd.DataFrame:
    """Weight shapes of all convolutions and linear layers of two networks, and the share of weights that second keeps."""
    sides = [
        {name: m.weight for name, m in network.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
        for network in (first, second)
    ]
    rows = []
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        a, b = (side.get(name) for side in sides)
        shapes = [tuple(weight.shape) if weight is not None else None for weight in (a, b)]
        kept = b.numel() / a.numel() if a is not None and b is not None else math.nan
        rows.append((name, *shapes, kept))
    return pd.DataFrame(rows, columns=["layer", "first", "second", "kept"])


def _run(network: nn.Module, photo: Tensor) -> list[_Step]:
    """The steps of a forward pass in eval mode, in order of execution; the network is not changed."""
    training = [module for module in network.modules() if module.training]
    with torch.no_grad(), ModuleTracker() as tracker:
        recorder = _Recorder(network, tracker)
        with recorder:
            network.eval()(photo.to(next(network.parameters())))
    for module in training:
        module.training = True
    return recorder.steps


def _maps(steps: Sequence[_Step], depthwise_in_place: bool = False) -> list[_Map]:
    """The feature maps between the steps, the input among them."""
    last_read = {place: i for i, step in enumerate(steps) for place in step.inputs}
    maps: list[_Map] = []
    held: dict[int, _Map] = {}  # by place
    for i, step in enumerate(steps):
        for place, (size, elements) in step.inputs.items():
            if place not in held:  # written by no step: the input
                held[place] = _Map(size, elements, -1, last_read[place])
                maps.append(held[place])
        place, size, elements = step.output
        if place in held or not size:  # a view, or torch itself works in place
            continue
        last = last_read.get(place, i)
        free = [held[p] for p in step.inputs if last_read[p] == i and held[p].last == i]
        if free and (step.name == "constant_pad_nd" or step.keeps_shape or (depthwise_in_place and step.depthwise)):
            held[place] = free[0]
            held[place].last = last
        else:
            held[place] = _Map(size, elements, i, last)
            maps.append(held[place])
    return maps


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _size(tensor: Tensor) -> tuple[int, int]:
    return tensor.numel() * tensor.element_size(), tensor.numel()


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records every dispatched operator; keeps the tensors alive so that storage addresses stay unique."""

    def __init__(self, network: nn.Module, tracker: ModuleTracker) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.prefix, self.tracker = type(network).__name__, tracker
        self.weights = {_place(tensor) for tensor in [*network.parameters(), *network.buffers()]}
        self.steps: list[_Step] = []
        self.tensors: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.numel()]
        result = next((leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)), None)
        if result is None or not result.numel() or _place(result) in self.weights:
            return out
        packet = func._overloadpacket
        name, count = packet.__name__.rstrip("_"), flop_registry.get(packet)
        inputs = [tensor for tensor in tensors if _place(tensor) not in self.weights]
        same = any(tensor.shape == result.shape for tensor in inputs)
        self.tensors += [*inputs, result]
        layer = max(self.tracker.parents - {"Global"}, key=lambda parent: parent.count("."), default="")
        self.steps.append(
            _Step(
                layer=layer.removeprefix(self.prefix).lstrip("."),
                name=name,
                shape=tuple(result.shape),
                macs=count(*args, **(kwargs or {}), out_val=out) // 2 if count else 0,
                inputs={_place(tensor): _size(tensor) for tensor in inputs},
                output=(_place(result), *_size(result)),
                keeps_shape=same and count is None and "pool" not in name,
                depthwise=same and name == "convolution" and tensors[1].shape[1] == 1,
            )
        )
        return out
