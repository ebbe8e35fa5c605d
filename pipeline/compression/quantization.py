"""Static int8: QDQ, signed activations and weights, per channel, calibrated on a seeded, balanced sample of train.

Signed activations (s8 x s8) because x86 processors without VNNI saturate u8 x s8 sums and then report a wrong accuracy.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
from numpy.typing import NDArray

from pipeline.compression.export import describe
from pipeline.edge.model import METADATA_KEY
from pipeline.errors import DataError
from pipeline.files import replacing

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


class Photos(CalibrationDataReader):  # type: ignore[misc]
    """Hands the calibration photos (n, size, size, 3) to onnxruntime one by one."""

    def __init__(self, photos: NDArray[np.uint8]) -> None:
        self.rest = iter(photos[:, None])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        photo = next(self.rest, None)
        return None if photo is None else {"input": photo}


def calibration_sample(train: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """n rows of train, species in turn so that rare ones are seen too; the same seed gives the same rows."""
    if n > len(train):
        raise DataError(
            f"{n} calibration images asked for, but train has {len(train)}; lower quantize.calibration_images"
        )
    shuffled = train.sample(frac=1, random_state=seed)
    turn = shuffled.groupby("species").cumcount()
    return shuffled.assign(turn=turn).sort_values(["turn", "species"], kind="stable").head(n).drop(columns="turn")


def quantize(source: Path, target: Path, photos: NDArray[np.uint8], method: str) -> None:
    """Write the int8 twin of an exported fp32 model; the scaling before the first convolution stays float."""
    level = logging.getLogger().level
    with tempfile.TemporaryDirectory() as scratch, replacing(target) as temporary:
        prepared = Path(scratch) / "prepared.onnx"
        logging.getLogger().setLevel(logging.ERROR)  # the library advises on the root logger
        try:
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared, temporary, Photos(photos), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, calibrate_method=METHODS[method],
                nodes_to_exclude=_before_first_convolution(onnx.load(prepared)),
            )  # fmt: skip
        finally:
            logging.getLogger().setLevel(level)
        proto = onnx.load(temporary)
        describe(proto, {**_card(source), "precision": "int8"})
        onnx.save_model(proto, temporary)


def _before_first_convolution(proto: onnx.ModelProto) -> list[str]:
    names = []
    for node in proto.graph.node:
        if node.op_type == "Conv":
            break
        names.append(node.name)
    return names


def _card(path: Path) -> dict[str, Any]:
    metadata = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
    card: dict[str, Any] = json.loads(metadata[METADATA_KEY])
    return card
