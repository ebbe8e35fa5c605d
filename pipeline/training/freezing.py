"""Freeze parameters for a while; batch normalisation with frozen parameters keeps its statistics, too."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.errors import ModelError
from pipeline.sections.training import Freeze

BACKBONE, ALL = "backbone", "all"


def freeze(network: nn.Module, learnable: Collection[str], head: tuple[str, ...], settings: Freeze, epoch: int) -> bool:
    """Make exactly the parameters trainable that the settings name for this epoch; returns whether any changed.

    learnable: names of the parameters that are made to learn. head: prefixes of the classifier's names. The optimizer holds
    all parameters from the start and passes over those without a gradient, so opening some later neither loses its state
    nor restarts the schedule.
    """
    parameters = {name: parameter for name, parameter in network.named_parameters() if name in learnable}
    _all_occur([name for names in [settings.frozen, *settings.unfreeze.values()] for name in names], list(parameters))
    opened = [name for after, names in settings.unfreeze.items() if epoch >= after for name in names]
    last = set(list(parameters)[-settings.train_last :])
    changed = False
    for name, parameter in parameters.items():
        learns = name in last and not begins(name, settings.frozen, head)
        learns = learns or begins(name, opened, head)
        changed |= parameter.requires_grad != learns
        parameter.requires_grad_(learns)
    return changed


def begins(name: str, prefixes: Sequence[str], head: tuple[str, ...]) -> bool:
    """Whether a parameter's name starts with one of the prefixes; "backbone" is all but the classifier, "all" is all."""
    return any(
        (not name.startswith(head)) if prefix == BACKBONE else prefix == ALL or name.startswith(prefix)
        for prefix in prefixes
    )


def train_mode(network: nn.Module) -> None:
    """Training mode, except for batch normalisation with frozen parameters."""
    network.train()
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, _BatchNorm) and own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def _all_occur(prefixes: Sequence[str], names: Sequence[str]) -> None:
    for prefix in prefixes:
        if prefix not in (BACKBONE, ALL) and not any(name.startswith(prefix) for name in names):
            tops = list(dict.fromkeys(name.partition(".")[0] for name in names))
            raise ModelError(f"no parameter's name starts with {prefix!r}; they start with {', '.join(tops)}")
