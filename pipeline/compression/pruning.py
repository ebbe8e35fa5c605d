"""Structured pruning: remove channels of layers by ratio, or until a target is met.

What depends on what, and how much a channel matters, Torch-Pruning says; the ranking and the rounding are done here, so
that a layer never dies in silence and channel counts stay multiples that processors like.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.compression.importance import Score
from pipeline.errors import ModelError, did_you_mean
from pipeline.models.surgery import Removed, dependencies, remove
from pipeline.sections.compression import Prune

MOST = 0.95  # the largest ratio that is tried for a target
TRIALS = 8  # bisections of the range of ratios: to .004


@dataclass(frozen=True)
class ChannelGroup:
    """Prunable channels: those of `layer` and of the layers coupled to it, with their scores (channels,).

    kind: equal for groups of the same structure (isomorphic). ratio: the layer's own, from a pattern.
    """

    layer: str
    scores: NDArray[np.float64]
    kind: str
    ratio: float | None


def candidates(
    network: nn.Module, size: int, classifier: tuple[str, ...], score: Score, ratios: dict[str, float]
) -> list[ChannelGroup]:
    """All groups of prunable channels, in a fixed order.

    classifier: prefixes of parameter names that stay whole. ratios: by name pattern, the first that fits a layer counts.
    """
    if heads := [name for name, module in network.named_modules() if hasattr(module, "num_heads")]:
        raise ModelError(f"{heads[0]} is attention; only convolutional networks are pruned, so take another model")
    graph = dependencies(network, size)
    names = {module: name for name, module in network.named_modules()}
    kept = [module for name, module in network.named_modules() if f"{name}.".startswith(classifier)]
    found, prunable = [], set()
    for group in graph.get_all_groups(ignored_layers=kept, root_module_types=[nn.Conv2d, nn.Linear]):
        modules = [item.dep.target.module for item in group]
        if any(isinstance(m, nn.Conv2d) and m.groups not in (1, m.in_channels) for m in modules):
            continue  # grouped convolutions would need the same number of channels from each of their groups
        loses = [item.dep.handler.__name__ == "prune_out_channels" for item in group]
        tied = [
            names[m] for m, out in zip(modules, loses, strict=True) if out and isinstance(m, (nn.Conv2d, nn.Linear))
        ]
        own = [ratio for pattern, ratio in ratios.items() if any(fnmatchcase(name, pattern) for name in tied)]
        kind = " ".join(f"{type(m).__name__}:{out}" for m, out in zip(modules, loses, strict=True))
        scores = score(group).double().numpy()
        found.append(ChannelGroup(names[modules[0]], scores, kind, own[0] if own else None))
        prunable |= set(tied)
    _check_patterns(ratios, prunable, set(names.values()))
    return found


def choose(found: Sequence[ChannelGroup], ratio: float, settings: Prune, strict: bool = True) -> Removed:
    """The channels to remove when `ratio` of each scope is removed, the least important first.

    strict: a layer that would lose all its channels is an error; else, and wherever layers compete (global, isomorphic),
    it keeps the share settings.keep.
    """
    scopes: dict[str, list[ChannelGroup]] = defaultdict(list)
    for candidate in found:
        alone = settings.scope == "layer" or candidate.ratio is not None
        scopes[
            f"layer {candidate.layer}" if alone else candidate.kind if settings.scope == "isomorphic" else ""
        ].append(candidate)
    removed: Removed = []
    for members in scopes.values():
        share = ratio if members[0].ratio is None else members[0].ratio
        scores = np.concatenate([member.scores for member in members])
        owners = np.repeat(np.arange(len(members)), [len(member.scores) for member in members])
        gone = owners[np.argsort(scores, kind="stable")[: math.floor(share * len(scores) + 0.5)]]
        competing = settings.scope != "layer" and members[0].ratio is None
        for i, member in enumerate(members):
            left = _left(member, int((gone == i).sum()), share, settings, strict and not competing)
            if left < len(member.scores):
                order = np.argsort(member.scores, kind="stable")
                removed.append((member.layer, sorted(order[: len(order) - left].tolist())))
    return removed


def prune(network: nn.Module, size: int, found: Sequence[ChannelGroup], ratio: float, settings: Prune) -> Removed:
    """Prune `network` in place by a ratio; returns the removed channels."""
    removed = choose(found, ratio, settings)
    if not removed:
        raise ModelError(
            f"ratio {ratio:g} takes no channel away: no layer has enough of them to lose {settings.round_to}; "
            "raise the ratio or lower prune.round_to"
        )
    remove(network, size, removed)
    return removed


def prune_to(
    network: nn.Module,
    size: int,
    found: Sequence[ChannelGroup],
    settings: Prune,
    measure: Callable[[nn.Module], float],
    goal: float,
    what: str,
) -> tuple[float, Removed]:
    """Prune `network` in place by the smallest ratio with measure(network) <= goal; returns it and the removed channels.

    A target out of reach is an error that says how far it got, and leaves the network as it was.
    """
    whole = measure(network)
    if whole <= goal:
        return 0.0, []

    def attempt(ratio: float) -> tuple[float, Removed]:
        trial, removed = copy.deepcopy(network), choose(found, ratio, settings, strict=False)
        remove(trial, size, removed)
        return measure(trial), removed

    reached, removed = attempt(MOST)
    if reached > goal:
        raise ModelError(
            f"the target of {goal:,.4g} {what} cannot be met: from {whole:,.4g} it went down to {reached:,.4g} "
            f"with {MOST:.0%} of the channels gone; raise the target, or lower prune.keep or prune.round_to"
        )
    low, high = 0.0, MOST
    for _ in range(TRIALS):
        middle = (low + high) / 2
        reached, trial = attempt(middle)
        if reached <= goal:
            high, removed = middle, trial
        else:
            low = middle
    remove(network, size, removed)
    return high, removed


def _left(candidate: ChannelGroup, gone: int, share: float, settings: Prune, strict: bool) -> int:
    """Number of remaining channels: all, or the multiple of settings.round_to nearest to what the ranking leaves."""
    channels, multiple = len(candidate.scores), settings.round_to
    left = channels - gone
    if strict and left == 0:
        raise ModelError(
            f"ratio {share:g} would leave no channel in {candidate.layer}, which has {channels}; lower the ratio"
        )
    if not strict:
        left = max(left, math.ceil(settings.keep * channels))
    rounded = max(multiple, math.floor(left / multiple + 0.5) * multiple)
    return channels if rounded > channels or channels - left < abs(left - rounded) else rounded


def _check_patterns(ratios: dict[str, Any], prunable: set[str], known: set[str]) -> None:
    for pattern in ratios:
        if any(fnmatchcase(name, pattern) for name in prunable):
            continue
        if stays := sorted(name for name in known if fnmatchcase(name, pattern)):
            raise ModelError(
                f"prune.layers names {stays[0]}, which cannot be pruned: it is the classifier, a grouped convolution, or "
                f"no layer with channels of its own; take another, e.g. {min(prunable)}"
            )
        hint = did_you_mean(pattern, prunable, f"layers are named like {min(prunable)}")
        raise ModelError(f"prune.layers: no layer fits {pattern!r}; {hint}")
