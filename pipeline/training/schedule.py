"""Learning-rate schedules, each stepped at its own time: per step, per epoch, or by the val loss."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer, lr_scheduler

from pipeline.errors import ModelError
from pipeline.sections.training import Training


def warmup_cosine(step: int, steps: int, warmup: int) -> float:
    """Factor of the base rate at `step` of `steps`: linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class Schedule:
    """One of PyTorch's schedulers with the time of its steps."""

    def __init__(self, optimizer: Optimizer, settings: Training, per_epoch: int) -> None:
        self.name, self.per_epoch = settings.schedule.name, per_epoch
        maker, defaults = _known(optimizer, settings, per_epoch)[self.name]
        try:
            self.scheduler: Any = maker(optimizer, **{**defaults, **settings.schedule.arguments})
        except (TypeError, ValueError) as error:
            raise ModelError(f"schedule {self.name} does not take {settings.schedule.arguments}: {error}") from error
        steps = settings.epochs * per_epoch
        if getattr(self.scheduler, "total_steps", steps) < steps:
            raise ModelError(
                f"schedule {self.name} ends after {self.scheduler.total_steps} steps, the training after {steps}; leave "
                "total_steps out"
            )

    def after_step(self, epoch: int, steps: int) -> None:
        """Call after each of the optimizer's steps; `steps` of this epoch are done."""
        if self.name in ("warmup_cosine", "cyclic", "one_cycle"):
            self.scheduler.step()
        elif self.name == "warm_restarts":  # in fractions of an epoch, so that its T_0 counts epochs
            self.scheduler.step(epoch + steps / self.per_epoch)

    def after_epoch(self, val_loss: float) -> None:
        """Call after each epoch's evaluation."""
        if self.name == "plateau":
            self.scheduler.step(val_loss)
        elif self.name in ("step", "multi_step", "exponential", "cosine"):
            self.scheduler.step()


def _known(optimizer: Optimizer, settings: Training, per_epoch: int) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Each schedule's class and default arguments."""
    epochs, steps = settings.epochs, settings.epochs * per_epoch
    warmup = math.ceil(settings.warmup_epochs * per_epoch)
    rise = max(1, min(2 * per_epoch, steps // 2))  # two epochs (Smith, "Cyclical Learning Rates", 2017)
    rates = [group["lr"] for group in optimizer.param_groups]
    return {
        "warmup_cosine": (lr_scheduler.LambdaLR, {"lr_lambda": lambda step: warmup_cosine(step, steps, warmup)}),
        "step": (lr_scheduler.StepLR, {"step_size": 10}),
        "multi_step": (lr_scheduler.MultiStepLR, {"milestones": [epochs // 2, epochs * 3 // 4]}),
        "exponential": (lr_scheduler.ExponentialLR, {"gamma": 0.95}),
        "cosine": (lr_scheduler.CosineAnnealingLR, {"T_max": epochs}),
        "warm_restarts": (lr_scheduler.CosineAnnealingWarmRestarts, {"T_0": epochs}),
        "cyclic": (
            lr_scheduler.CyclicLR,
            {"base_lr": [r / 10 for r in rates], "max_lr": rates, "step_size_up": rise, "cycle_momentum": False},
        ),
        "one_cycle": (lr_scheduler.OneCycleLR, {"max_lr": rates, "total_steps": steps}),
        "plateau": (lr_scheduler.ReduceLROnPlateau, {}),
    }
