"""Accuracy of int8 against fp32 on the same photos, and the quantization report."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pandas as pd
from numpy.typing import NDArray

from pipeline.compression.mixed import Layer
from pipeline.edge.model import wants_exact_int8
from pipeline.macro import macro_f1

WORST = 10  # layers named in the report; the table has all
Logits = NDArray[np.float32]


def scores(truth: NDArray[np.int64], logits: Logits) -> dict[str, float]:
    """Accuracy, and macro F1 over the labels that occur."""
    answers = logits.argmax(1)
    return {"accuracy": float((answers == truth).mean()), "macro_f1": macro_f1(truth, answers, logits.shape[1])}


def compare(truth: NDArray[np.int64], fp32: Logits, int8: Logits) -> dict[str, Any]:
    """Scores of both, and how far apart they are; logits (photos, labels)."""
    before, after = scores(truth, fp32), scores(truth, int8)
    difference = int8.astype(np.float64) - fp32
    return {
        "photos": len(truth),
        "fp32": before,
        "int8": after,
        "accuracy_drop": before["accuracy"] - after["accuracy"],
        "agreement": float((fp32.argmax(1) == int8.argmax(1)).mean()),
        "mse": float((difference**2).mean()),
        "mae": float(np.abs(difference).mean()),
        "max_logit_difference": float(np.abs(difference).max()),
    }


def report(
    fp32: Path, int8: Path, layers: Sequence[Layer], trials: Sequence[dict[str, Any]], allowed: float
) -> dict[str, Any]:
    """Contents of quantization_report.json; `int8` is the file of the last trial."""
    *_, chosen = trials
    sizes = {"fp32": fp32.stat().st_size, "int8": int8.stat().st_size}
    return {
        "bytes": sizes,
        "size_ratio": sizes["fp32"] / sizes["int8"],
        "val": {key: value for key, value in chosen.items() if key != "float_layers"},
        "allowed_drop": allowed,
        "within_max_drop": chosen["accuracy_drop"] <= allowed,
        "layers": {"total": len(layers), "float": chosen["float_layers"]},
        "worst_layers": [asdict(layer) for layer in layers[:WORST]],
        "trials": [
            {"float_layers": len(trial["float_layers"]), "accuracy_drop": trial["accuracy_drop"]} for trial in trials
        ],
        "operators_here": operators_here(int8),
        "exact_kernels_asked_for": wants_exact_int8(),
    }


def layer_table(layers: Sequence[Layer], kept: Collection[str]) -> pd.DataFrame:
    """All layers, noisiest first: name, operator, noise, precision."""
    table = pd.DataFrame([asdict(layer) for layer in layers], columns=["name", "operator", "noise"])
    return table.assign(precision=["fp32" if name in kept else "int8" for name in table["name"]])


def operators_here(path: Path) -> dict[str, int]:
    """Operators that onnxruntime runs on this processor after its optimisations; a Conv among them runs in float."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as scratch:
        options.optimized_model_filepath = str(Path(scratch) / "optimized.onnx")
        ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(options.optimized_model_filepath).graph.node
    return dict(Counter(node.op_type for node in nodes).most_common())
