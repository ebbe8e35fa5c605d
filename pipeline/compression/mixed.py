"""Mixed precision: the layers that cost most stay float until int8 costs no more accuracy than allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.compression.export import logits
from pipeline.compression.quantization import Prepared, write_int8, write_one_layer
from pipeline.edge.model import Model

PHOTOS = 32  # of the calibration sample, on which each layer's own noise is measured
Judge = Callable[[Path], dict[str, Any]]


@dataclass(frozen=True)
class Layer:
    """noise: mean over labels of the variance, over photos, of the logits' error when only this layer is int8.

    The error's mean is left out of it: that is what bias correction takes back.
    """

    name: str
    operator: str
    noise: float


def sensitivity(ready: Prepared) -> list[Layer]:
    """Layers, noisiest first, each measured alone on photos of train."""
    photos = ready.photos[:PHOTOS]
    trial = ready.model.with_name("one.onnx")
    exact = logits(Model(ready.source), photos)
    layers = []
    for name, operator in ready.layers.items():
        write_one_layer(ready, trial, name)
        error = logits(Model(trial), photos) - exact
        layers.append(Layer(name, operator, float(error.var(axis=0).mean())))
    return sorted(layers, key=lambda layer: -layer.noise)


def search(ready: Prepared, layers: list[Layer], judge: Judge, allowed: float, target: Path) -> list[dict[str, Any]]:
    """Write int8 with the 0, 1, 2, 4, 8 ... noisiest layers in float until its drop in accuracy is at most `allowed`.

    At most half of the layers stay float; where no trial is good enough, the one with the least drop is written.
    Returns the trials, the written one last; each is the judge's figures with `float_layers`.
    """
    trials: list[dict[str, Any]] = []
    count = 0
    while count <= len(layers) // 2:
        names = [layer.name for layer in layers[:count]]
        write_int8(ready, target, names)
        trials.append({"float_layers": names, **judge(target)})
        if trials[-1]["accuracy_drop"] <= allowed:
            return trials
        count = max(1, 2 * count)
    best = min(trials, key=lambda trial: trial["accuracy_drop"])
    if best is not trials[-1]:  # which is what stands in target
        write_int8(ready, target, best["float_layers"])
    return [*(trial for trial in trials if trial is not best), best]
