"""int8 by onnxruntime: static (QDQ or QOperator) or dynamic, calibrated on a seeded, balanced sample of train.

u8 activations are the default: onnxruntime runs such a graph in integers throughout, on x86 and on arm. Of an s8 graph it
turns on x86 only a part into u8 and leaves the rest in float. Saturation of u8 x s8 sums: see edge.model.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
from numpy.typing import NDArray

from pipeline.compression.bias import correct_biases
from pipeline.compression.export import describe
from pipeline.compression.photo_input import as_quantization, take_bytes
from pipeline.compression.rounding import round_kernels
from pipeline.edge.model import Model
from pipeline.edge.recipe import Recipe
from pipeline.files import replacing
from pipeline.labels import LabelSpace
from pipeline.sections.compression import Quantize

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
FORMATS = {"qdq": QuantFormat.QDQ, "qoperator": QuantFormat.QOperator}
TYPES = {"s8": QuantType.QInt8, "u8": QuantType.QUInt8}
FOLLOW = {"Clip", "Relu"}  # fused into the range of the preceding layer, so not quantized on their own
CORRECTED_ON = 64  # photos of the calibration sample


class Photos(CalibrationDataReader):  # type: ignore[misc]
    """Hands the calibration photos (n, size, size, 3) to onnxruntime one by one."""

    def __init__(self, photos: NDArray[np.uint8]) -> None:
        self.rest = iter(photos[:, None])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        photo = next(self.rest, None)
        return None if photo is None else {"input": photo}


def calibration_sample(train: pd.DataFrame, n: int, seed: int, labels: LabelSpace) -> pd.DataFrame:
    """n rows of train (all, where there are fewer), from the model's labels in turn so that rare ones are included; seeded."""
    shuffled = train.sample(frac=1, random_state=seed)
    shuffled = shuffled.assign(label=labels.ids(shuffled["species"].tolist()))
    shuffled = shuffled.assign(turn=shuffled.groupby("label").cumcount())
    return shuffled.sort_values(["turn", "label"], kind="stable").head(n).drop(columns=["turn", "label"])


@dataclass(frozen=True)
class Prepared:
    """An exported fp32 model prepared for int8 in a scratch folder, which also holds the calibrated ranges."""

    source: Path
    card: dict[str, Any]
    recipe: Recipe
    model: Path
    photos: NDArray[np.uint8]
    settings: Quantize

    @property
    def layers(self) -> dict[str, str]:
        """Name and operator of each node that can be quantized or kept in float on its own, in graph order."""
        kinds = ({*QDQRegistry} | {*QLinearOpsRegistry}) - FOLLOW
        model = onnx.load(self.model)
        after = model.graph.node[len(_before_first_convolution(model)) :]
        return {node.name: node.op_type for node in after if node.op_type in kinds}


@contextmanager
def prepared(source: Path, photos: NDArray[np.uint8], settings: Quantize) -> Iterator[Prepared]:
    """Fold and infer shapes (onnxruntime's own step before quantization). photos: (n, size, size, 3), to calibrate."""
    exported = Model(source)
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "prepared.onnx"
        with _quiet():
            quant_pre_process(source, model, skip_symbolic_shape=True)
        yield Prepared(source, exported.card, exported.recipe, model, photos, settings)


def write_int8(ready: Prepared, target: Path, keep_float: Collection[str] = ()) -> None:
    """Write the int8 model; the nodes of `keep_float`, and the scaling before the first convolution, stay in float."""
    settings = ready.settings
    with tempfile.TemporaryDirectory() as scratch, replacing(target) as temporary:
        if settings.kind == "dynamic":
            _dynamic(ready, temporary, exclude=keep_float)
        elif settings.refine:
            exact, model, refined = onnx.load(ready.model), onnx.load(ready.model), Path(scratch) / "refined.onnx"
            round_kernels(model, ready.layers.keys() - set(keep_float), settings.per_channel)
            onnx.save_model(model, refined)
            _static(ready, refined, temporary, "qdq", exclude=keep_float)
            correct_biases(exact, model, onnx.load(temporary), ready.photos[:CORRECTED_ON])
            onnx.save_model(model, refined)
            _static(ready, refined, temporary, settings.format, exclude=keep_float)
        else:
            _static(ready, ready.model, temporary, settings.format, exclude=keep_float)
        proto = onnx.load(temporary)
        describe(proto, {**ready.card, "precision": "int8"})
        onnx.save_model(proto, temporary)


def write_one_layer(ready: Prepared, target: Path, layer: str) -> None:
    """Write a model in which only this layer, with the activation fused to it, is int8."""
    if ready.settings.kind == "dynamic":
        _dynamic(ready, target, only=[layer])
        return
    model, refined = onnx.load(ready.model), ready.model.with_name("refined.onnx")
    made = {name for node in model.graph.node if node.name == layer for name in node.output}
    cuts = [node.name for node in model.graph.node if node.op_type in FOLLOW and node.input[0] in made]
    if ready.settings.refine:
        round_kernels(model, [layer], ready.settings.per_channel)
    onnx.save_model(model, refined)
    _static(ready, refined, target, "qdq", only=[layer, *cuts])


def _dynamic(ready: Prepared, target: Path, *, only: Collection[str] = (), exclude: Collection[str] = ()) -> None:
    model = onnx.load(ready.model)
    del model.graph.value_info[:]  # Gemm becomes MatMul, with weights of another shape and a name of its own

    def names(layers: Collection[str]) -> list[str]:
        return [name for layer in layers for name in (layer, f"{layer}_MatMul")]

    with _quiet():  # unsigned weights: the only ones that onnxruntime's ConvInteger knows on a CPU
        quantize_dynamic(
            model, target, weight_type=QuantType.QUInt8, nodes_to_quantize=names(only), nodes_to_exclude=names(exclude)
        )


def _static(
    ready: Prepared, model: Path, target: Path, form: str, *, only: Collection[str] = (), exclude: Collection[str] = ()
) -> None:
    settings = ready.settings
    proto = onnx.load(model)
    photo = as_quantization(proto, ready.recipe) if settings.activations == "u8" else {}
    with _quiet():
        quantize_static(
            model, target, Photos(ready.photos), quant_format=FORMATS[form], per_channel=settings.per_channel,
            activation_type=TYPES[settings.activations], weight_type=QuantType.QInt8,
            calibrate_method=METHODS[settings.method], nodes_to_quantize=[*only],
            nodes_to_exclude=[*_before_first_convolution(proto), *exclude],
            extra_options={"CalibPercentile": settings.percentile, "TensorQuantOverrides": photo},
            calibration_cache_path=ready.model.with_name("ranges.json"),  # calibrated once, by the first call
        )  # fmt: skip
    if photo:
        quantized = onnx.load(target)
        take_bytes(quantized)
        onnx.save_model(quantized, target)


def _before_first_convolution(model: onnx.ModelProto) -> list[str]:
    kinds = [node.op_type for node in model.graph.node]
    return [node.name for node in model.graph.node[: kinds.index("Conv") if "Conv" in kinds else len(kinds)]]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the library, which prints advice on the root logger and on stdout."""
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logging.getLogger().setLevel(level)
