"""The sections `prune`, `export` and `quantize`: how models are made smaller, and into which files."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.sections.common import Section
from pipeline.sections.training import check_warm_up


class Retrain(Section):
    """How a pruned model is retrained; every other setting is that of its own section, main or cache."""

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
    ratios: list[float] = Field([0.5], min_length=1, description="shares of the channels to remove; one model for each")
    macs: float | None = Field(None, gt=0, lt=1, description="instead of ratios: share of the MACs to keep")
    params: float | None = Field(None, gt=0, lt=1, description="instead of ratios: share of the parameters to keep")
    ms: float | None = Field(
        None, gt=0, description="instead of ratios: ms per photo (onnxruntime, one thread, this machine)"
    )
    importance: Literal["l1", "l2", "taylor", "deadness"] = Field(
        "l1",
        description="score of a channel: weight norm (l1, l2), first-order change of the loss (taylor), or share of "
        "active values (deadness)",
    )
    scope: Literal["isomorphic", "global", "layer"] = Field(
        "isomorphic",
        description="channels are ranked among layers of the same structure, over the network, or per layer",
    )
    layers: dict[str, float] = Field(
        default_factory=dict,
        description="ratios of single layers by name pattern, e.g. {'*.se.*': 0.1}; 0 keeps a layer",
    )
    round_to: int = Field(8, gt=0, description="remaining channels are a multiple of this; 1: any number, but slower")
    keep: float = Field(
        0.1, gt=0, le=1, description="smallest share of its channels that a layer keeps, where layers compete"
    )
    photos: int = Field(256, gt=0, description="size of the seeded sample of train for taylor and deadness")
    dead_below: float = Field(0.1, ge=0, description="deadness: activations with |value| up to this count as inactive")
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


class Export(Section):
    batch: Literal["dynamic", 1] = Field(
        "dynamic", description="batch size of the graph; 1: fixed, as some compilers need"
    )
    formats: list[Literal["torchscript", "triton"]] = Field([], description="also written beside model.onnx")


class Quantize(Section):
    kind: Literal["static", "dynamic"] = Field(
        "static", description="dynamic: ranges are computed at run time for each photo"
    )
    format: Literal["qdq", "qoperator"] = Field(
        "qdq", description="onnxruntime's representation of a static int8 graph"
    )
    calibration_images: int = Field(256, ge=16, description="seeded sample of train, balanced over species")
    method: Literal["minmax", "entropy", "percentile"] = "minmax"
    percentile: float = Field(99.999, gt=50, le=100, description="share of the values kept by method percentile")
    per_channel: bool = Field(True, description="one weight scale per channel, else one per layer")
    activations: Literal["u8", "s8"] = Field(
        "u8", description="type of activations; with s8, x86 runs some layers in float"
    )
    refine: bool = Field(
        True, description="rounding that keeps each kernel's sum, and bias correction of int8's mean error"
    )
    max_drop: float = Field(
        0.005,
        ge=0,
        le=1,
        description="largest loss of val accuracy; beyond it the worst layers stay in float; 1: no layer does",
    )
    parity_images: int = Field(64, gt=0, description="val photos on which torch and ONNX must agree")
    parity_tolerance: float = Field(1e-3, gt=0, description="largest |logit difference| allowed")
