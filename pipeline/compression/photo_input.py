"""Let an int8 network read the photo's bytes directly, where the recipe's scaling is itself a quantization."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from pipeline.edge.recipe import Recipe

CHAIN = ["Transpose", "Cast", "Mul", "Add"]  # models.deployable as exported: layout, float, scale, shift


def as_quantization(model: onnx.ModelProto, recipe: Recipe) -> dict[str, Any]:
    """onnxruntime's TensorQuantOverrides for the scaled photo: (x / 255 - mean) / std is a u8 quantization of step
    1 / (255 std) and zero 255 mean, to half a level, when all colours are scaled alike; else nothing.
    """
    alike = len(set(recipe.mean)) == len(set(recipe.std)) == 1 and 0 <= recipe.mean[0] <= 1
    photo = next((node.input[0] for node in model.graph.node if node.op_type == "Conv"), "")
    if not alike or [node.op_type for node in _leading_to(model, photo)] != CHAIN:
        return {}
    step = np.array(1 / (255 * recipe.std[0]), np.float32)
    return {photo: [{"scale": step, "zero_point": np.array(round(255 * recipe.mean[0]), np.uint8)}]}


def take_bytes(model: onnx.ModelProto) -> None:
    """Remove the float scaling and its quantization from a quantized model: the photo's bytes are the quantized input."""
    for quantizer in [node for node in model.graph.node if node.op_type == "QuantizeLinear"]:
        chain = _leading_to(model, quantizer.input[0])
        if [node.op_type for node in chain] == CHAIN:
            for node in model.graph.node:
                for i, name in enumerate(node.input):
                    if name == quantizer.output[0]:
                        node.input[i] = chain[0].output[0]
            for node in (*chain[1:], quantizer):
                model.graph.node.remove(node)
    used = {name for node in model.graph.node for name in node.input}
    for constant in [tensor for tensor in model.graph.initializer if tensor.name not in used]:
        model.graph.initializer.remove(constant)


def _leading_to(model: onnx.ModelProto, tensor: str) -> list[onnx.NodeProto]:
    """The chain of nodes from the model's input to this tensor; at most one more than CHAIN."""
    makers = {name: node for node in model.graph.node for name in node.output}
    chain: list[onnx.NodeProto] = []
    while len(chain) <= len(CHAIN) and (node := makers.get(tensor)):
        chain.insert(0, node)
        tensor = node.input[0]
    return chain
