"""The section of pruning: what goes, until when, and how the rest learns again."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.sections import Section
from pipeline.sections_training import check_warm_up


class Retrain(Section):
    """How a pruned model learns again; all that is not here is as in its own section, main or cache."""

    epochs: int = Field(15, gt=0)
    lr: float = Field(5e-4, gt=0)
    warmup_epochs: float = Field(0.5, ge=0)
    teacher: str | None = Field(
        "unpruned", description="unpruned: the model that was pruned; or a model's name; none: as in main or cache"
    )

    @model_validator(mode="after")
    def _warms_up(self) -> Self:
        check_warm_up(self.warmup_epochs, self.epochs)
        return self


class Prune(Section):
    ratios: list[float] = Field([0.5], min_length=1, description="shares of the channels that go; a model for each")
    macs: float | None = Field(None, gt=0, lt=1, description="instead of ratios: share of the MACs that stays")
    params: float | None = Field(None, gt=0, lt=1, description="instead of ratios: share of the parameters that stays")
    ms: float | None = Field(None, gt=0, description="instead of ratios: ms per photo, onnxruntime, one thread, here")
    importance: Literal["l1", "l2", "taylor", "deadness"] = Field(
        "l1", description="what makes a channel matter: size of weights, loss of the loss, or how often it speaks"
    )
    scope: Literal["isomorphic", "global", "layer"] = Field(
        "isomorphic", description="channels compete within layers of the same build, all over, or each layer for itself"
    )
    layers: dict[str, float] = Field(
        default_factory=dict,
        description="ratios of single layers by name pattern, e.g. {'*.se.*': 0.1}; 0 keeps a layer",
    )
    round_to: int = Field(8, gt=0, description="channels that stay are a multiple of this; 1: any number, but slower")
    keep: float = Field(0.1, gt=0, le=1, description="share of its channels that a layer keeps when layers compete")
    photos: int = Field(256, gt=0, description="seeded sample of train that taylor and deadness look at")
    dead_below: float = Field(0.1, ge=0, description="deadness: a value within +- this is silent")
    steps: int = Field(1, gt=0, description="prune in this many steps, retrained in between")
    retrain: Retrain = Retrain()

    @model_validator(mode="after")
    def _leaves_something_and_has_one_aim(self) -> Prune:
        for ratio in self.ratios:
            if not 0 < ratio < 1:
                raise ValueError(f"ratio {ratio:g} would leave {'no' if ratio >= 1 else 'every'} channel")
        for pattern, ratio in self.layers.items():
            if not 0 <= ratio < 1:
                raise ValueError(f"layers: ratio {ratio:g} of {pattern} must lie in [0, 1); 1 would leave no channel")
        if sum(target is not None for target in (self.macs, self.params, self.ms)) > 1:
            raise ValueError("macs, params and ms are targets of their own; give one")
        return self
