"""Optimizer, schedule and gradient scaler as one object with one state."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW

from pipeline.sections.training import Training
from pipeline.training.freezing import begins
from pipeline.training.schedule import Schedule


class Optimisation:
    """Takes one step per `accumulate` batches, with the schedule and, for fp16, the loss scaler."""

    def __init__(
        self, network: nn.Module, head: tuple[str, ...], settings: Training, batches: int, device: str
    ) -> None:
        self.settings, self.batches = settings.optimizer, batches
        self.per_epoch = -(-batches // self.settings.accumulate)
        self.optimizer = _optimizer(groups(network, head, settings), settings)
        self.schedule = Schedule(self.optimizer, settings, self.per_epoch)
        self.scaler = torch.amp.GradScaler(device, enabled=settings.precision == "fp16")

    @property
    def rate(self) -> float:
        """Learning rate of the next step (of the first group of parameters)."""
        return float(self.optimizer.param_groups[0]["lr"])

    def is_step(self, batch: int) -> bool:
        """Whether a step follows batch `batch` (from 0) of an epoch."""
        return (batch + 1) % self.settings.accumulate == 0 or batch + 1 == self.batches

    def backward(self, loss: Tensor, batch: int) -> None:
        """Add this batch's gradient; a step takes the mean over its batches."""
        first = batch - batch % self.settings.accumulate
        self.scaler.scale(loss / min(self.settings.accumulate, self.batches - first)).backward()  # type: ignore[no-untyped-call]

    def step(self, epoch: int, batch: int) -> None:
        """Update the weights, then the learning rate."""
        if self.settings.clip_norm:
            self.scaler.unscale_(self.optimizer)
            parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.after_step(epoch, batch // self.settings.accumulate + 1)

    def state_dict(self) -> dict[str, Any]:
        """The state for resuming a killed training."""
        parts = {"optimizer": self.optimizer, "schedule": self.schedule.scheduler, "scaler": self.scaler}
        return {name: part.state_dict() for name, part in parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of state_dict."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.scheduler.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])


def groups(network: nn.Module, head: tuple[str, ...], settings: Training) -> list[dict[str, Any]]:
    """Parameters by their learning rate and weight decay; none decays biases and normalisation (He et al., "Bag of
    Tricks", 2019) and what timm's network excepts itself, like positions. Where several lr_factors fit a name, the last one
    counts."""
    excepted: Collection[str] = getattr(network, "no_weight_decay", tuple)()
    found: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): [], (1.0, False): []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            fitting = [f for prefix, f in settings.optimizer.lr_factors.items() if begins(name, [prefix], head)]
            factor = fitting[-1] if fitting else 1.0
            found.setdefault((factor, parameter.ndim > 1 and name not in excepted), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": settings.weight_decay if decays else 0.0, "lr": settings.lr * factor}
        for (factor, decays), parameters in found.items()
    ]


def _optimizer(parameters: Iterable[dict[str, Any]], settings: Training) -> torch.optim.Optimizer:
    given = settings.optimizer
    if given.name == "sgd":
        nesterov = given.nesterov and given.momentum > 0
        return SGD(parameters, lr=settings.lr, momentum=given.momentum, nesterov=nesterov)
    kind = Adam if given.name == "adam" else AdamW
    return kind(parameters, lr=settings.lr, betas=given.betas)
