"""Bias correction: each layer's bias compensates the mean error that int8 adds to its output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from pipeline.edge.model import session

BATCH = 16
LAYERS = ("Conv", "Gemm")


def correct_biases(
    exact: onnx.ModelProto, model: onnx.ModelProto, quantized: onnx.ModelProto, photos: NDArray[np.uint8]
) -> None:
    """Move the biases of `model` so that its int8 twin's outputs have the means per channel that those of `exact` have.

    quantized: the QDQ twin of model, changed too; all have nodes of the same names. photos: (n, size, size, 3). Layers
    are done in the order of the graph, each after those before it (empirical bias correction: Nagel et al.,
    "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, appendix D).
    """
    layers = {node.name: node for node in model.graph.node if node.op_type in LAYERS and len(node.input) == 3}
    twins = [node for node in quantized.graph.node if node.name in layers and len(node.input) == 3]
    wanted = _means(exact, [layers[twin.name].output[0] for twin in twins], photos)
    biases = {tensor.name: tensor for tensor in model.graph.initializer}
    twin_biases = {tensor.name: tensor for tensor in quantized.graph.initializer}
    dequantized = {node.output[0]: node for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
    for twin, mean in zip(twins, wanted, strict=True):
        name = layers[twin.name].input[2]
        if name not in biases:
            continue
        error = (mean - _means(quantized, [twin.output[0]], photos)[0]).astype(np.float32)
        _add(biases[name], error)
        if node := dequantized.get(twin.input[2]):
            step = numpy_helper.to_array(twin_biases[node.input[1]])
            _add(twin_biases[node.input[0]], np.rint(error / step))
        else:
            _add(twin_biases[twin.input[2]], error)


def _add(tensor: onnx.TensorProto, change: NDArray[np.float32]) -> None:
    values = numpy_helper.to_array(tensor)
    moved = values + change
    if np.issubdtype(values.dtype, np.integer):  # a dead channel may have a bias near the limit of int32
        moved = moved.clip(np.iinfo(values.dtype).min, np.iinfo(values.dtype).max)
    tensor.CopyFrom(numpy_helper.from_array(moved.astype(values.dtype), tensor.name))


def _means(model: onnx.ModelProto, names: Sequence[str], photos: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    """Mean per channel (axis 1) of these tensors over the photos; only the nodes before them are run."""
    run = session(_up_to(model, names).SerializeToString()).run
    step = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or BATCH  # 0: any number of photos
    batches = [photos[start : start + step] for start in range(0, len(photos), step)]
    means = [[_mean(value) for value in run(None, {"input": batch})] for batch in batches]
    weights = [len(batch) for batch in batches]
    return [np.average(parts, axis=0, weights=weights) for parts in zip(*means, strict=True)]


def _mean(value: NDArray[np.float32]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = value.mean(axis=(0, *range(2, value.ndim)), dtype=np.float64)
    return mean


def _up_to(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The subgraph that computes these tensors, with them as outputs."""
    part = onnx.ModelProto()
    part.CopyFrom(model)
    needed, nodes = set(names), []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            nodes.append(node)
    del part.graph.node[:], part.graph.output[:]
    part.graph.node.extend(reversed(nodes))
    part.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    return part
