"""Mixed precision: keep the most sensitive layers in float until int8 costs no more accuracy than allowed."""

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

    Between the last that is not good enough and the first that is, the number is found by halving. At most half of the
    layers stay float; where no trial is good enough, the one with the least drop is written. Returns the trials, the
    written one last; each is the judge's figures with `float_layers`.
    """
    trials: list[dict[str, Any]] = []

    def good(count: int) -> bool:
        names = [layer.name for layer in layers[:count]]
        write_int8(ready, target, names)
        trials.append({"float_layers": names, **judge(target)})
        return bool(trials[-1]["accuracy_drop"] <= allowed)

    few, count, most = -1, 0, len(layers) // 2
    while few < most and not good(count):
        few, count = count, min(max(1, 2 * count), most)
    while count - few > 1:
        middle = (few + count) // 2
        few, count = (few, middle) if good(middle) else (middle, count)

    def cost(trial: dict[str, Any]) -> tuple[bool, float]:
        drop = trial["accuracy_drop"]
        return drop > allowed, drop if drop > allowed else len(trial["float_layers"])

    best = min(trials, key=cost)
    if best is not trials[-1]:  # which is what stands in target
        write_int8(ready, target, best["float_layers"])
    return [*(trial for trial in trials if trial is not best), best]
