"""An int8 network that takes the photo's bytes as they are, where the recipe's scaling is itself a quantization."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from pipeline.edge.recipe import Recipe

CHAIN = ["Transpose", "Cast", "Mul", "Add"]  # what the export makes of models.deployable: layout, float, scale, shift


def scaling_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes before the first convolution: from the photo to the network's float input."""
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Conv":
            break
        nodes.append(node)
    return nodes


def as_quantization(model: onnx.ModelProto, recipe: Recipe) -> dict[str, Any]:
    """onnxruntime's TensorQuantOverrides for the scaled photo: (x / 255 - mean) / std is a u8 quantization of step
    1 / (255 std) and zero 255 mean, to half a level, when all colours are scaled alike; else nothing.
    """
    chain = scaling_nodes(model)
    alike = len(set(recipe.mean)) == len(set(recipe.std)) == 1 and 0 <= recipe.mean[0] <= 1
    if not alike or [node.op_type for node in chain] != CHAIN:
        return {}
    step = np.array(1 / (255 * recipe.std[0]), np.float32)
    return {chain[-1].output[0]: [{"scale": step, "zero_point": np.array(round(255 * recipe.mean[0]), np.uint8)}]}


def take_bytes(model: onnx.ModelProto) -> None:
    """Take the float scaling and its quantization out of a quantized model: the photo's bytes are the quantized input."""
    layout, cast, mul, add = scaling_nodes(model)[:4]
    for quantizer in [node for node in model.graph.node if node.op_type == "QuantizeLinear"]:
        if quantizer.input[0] == add.output[0]:
            for node in model.graph.node:
                for i, name in enumerate(node.input):
                    if name == quantizer.output[0]:
                        node.input[i] = layout.output[0]
            for node in (cast, mul, add, quantizer):
                model.graph.node.remove(node)
            return
