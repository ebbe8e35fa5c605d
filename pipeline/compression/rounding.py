"""Rounding of spatial kernels that keeps each kernel's sum, so that uniform regions keep their value in int8."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

LEVELS = 127  # of signed, symmetric int8


def round_kernels(model: onnx.ModelProto, layers: Collection[str], per_channel: bool) -> None:
    """Put the kernels (larger than 1 x 1) of these convolutions on the int8 grid that onnxruntime will choose for them."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Conv" and node.name in layers and (tensor := tensors.get(node.input[1])):
            weights = numpy_helper.to_array(tensor)
            if weights[0, 0].size > 1:
                tensor.CopyFrom(numpy_helper.from_array(keep_sums(weights, per_channel), tensor.name))


def keep_sums(weights: NDArray[np.float32], per_channel: bool) -> NDArray[np.float32]:
    """Weights (out, in, *kernel) on the grid of step max / 127, each kernel's sum within half a step of the true one.

    Of the rounded values, those nearest to the other side are moved there (the kernel-wise part of SQuant: Guo et al.,
    ICLR 2022). The largest value lies on the grid already, so the step stays what it was.
    """
    axes = tuple(range(1, weights.ndim)) if per_channel else None
    step = np.abs(weights).max(axis=axes, keepdims=True) / np.float32(LEVELS)
    step = np.where(step > 0, step, np.float32(1))
    exact = (weights / step).reshape(*weights.shape[:2], -1)
    rounded = np.rint(exact)
    error = rounded - exact
    too_much = np.rint(error.sum(axis=-1, keepdims=True))
    order = np.argsort(-error * np.sign(too_much), axis=-1, kind="stable")
    moved = np.argsort(order, axis=-1, kind="stable") < np.abs(too_much)
    rounded = np.clip(rounded - moved * np.sign(too_much), -LEVELS, LEVELS)
    result: NDArray[np.float32] = (rounded.reshape(weights.shape) * step).astype(np.float32)
    return result
