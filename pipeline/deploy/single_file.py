"""The whole cascade as one ONNX file: each later stage is inside an `If` that runs only when a photo is passed on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, compose, helper, numpy_helper

from pipeline.console import log
from pipeline.edge.cascade import UNKNOWN, Cascade, Stage, load_cascade
from pipeline.edge.model import METADATA_KEY
from pipeline.edge.rule import Rule
from pipeline.errors import ModelError
from pipeline.files import replacing
from pipeline.labels import OTHER, translate

OUTPUTS = {"answer": TensorProto.INT64, "score": TensorProto.DOUBLE, "stage": TensorProto.INT64}


def write_single_file(bundle: Path, target: Path) -> Path:
    """Join the stages of a bundle into one ONNX file that any onnxruntime can run.

    Inputs: one prepared photo, uint8 (1, size, size, 3) RGB, per geometry of the stages, named photo_<size> (photo_<size>_<n>
    where stages crop the same size otherwise); a photo that no stage asks for may be zeros. Outputs, each of shape (1,):
    answer, an index of the metadata's labels (the last of them is "unknown"); score, the probability of the best label of
    the stage that answered or was asked last; stage, its index.
    """
    cascade = load_cascade(bundle)
    models = [onnx.load(bundle / f"{stage.name}.onnx") for stage in cascade.stages]
    versions = [{entry.domain: entry.version for entry in model.opset_import} for model in models]
    if any(one != versions[0] for one in versions):
        raise ModelError(
            f"the stages are of different ONNX versions ({versions}), so they cannot be one file; export again"
        )
    labels = list(dict.fromkeys(name for stage in reversed(cascade.stages) for name in stage.labels if name != OTHER))
    inputs = input_names(cascade)
    graph = _stages(cascade, models, inputs, [*labels, UNKNOWN], 0)
    graph.name = "cascade"
    graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.UINT8, [1, geometry[0], geometry[0], 3])
        for geometry, name in inputs.items()
    )
    opsets = [helper.make_opsetid(domain, number) for domain, number in versions[0].items()]
    joined = helper.make_model(graph, opset_imports=opsets, ir_version=max(model.ir_version for model in models))
    about = {
        "labels": [*labels, UNKNOWN],
        "stages": [stage.name for stage in cascade.stages],
        "inputs": {inputs[stage.recipe.geometry]: stage.recipe.to_dict() for stage in cascade.stages},
    }
    helper.set_model_props(joined, {METADATA_KEY: json.dumps(about, ensure_ascii=False)})
    onnx.checker.check_model(joined)
    with replacing(target) as temporary:
        onnx.save_model(joined, temporary)
    log.info("deploy    %s: the cascade as one file, %.1f MB", target, target.stat().st_size / 1e6)
    return target


def input_names(cascade: Cascade) -> dict[tuple[int, float, str], str]:
    """The name of the input for photos of a geometry, in the order of the stages."""
    names: dict[tuple[int, float, str], str] = {}
    for stage in cascade.stages:
        geometry = stage.recipe.geometry
        same = sum(known[0] == geometry[0] for known in names)
        names.setdefault(geometry, f"photo_{geometry[0]}" + (f"_{same}" if same else ""))
    return names


def _stages(
    cascade: Cascade, models: Sequence[onnx.ModelProto], inputs: dict[Any, str], labels: list[str], k: int
) -> GraphProto:
    """The graph of stage k and all later ones; its inputs are those of the outermost graph."""
    stage, prefix = cascade.stages[k], f"s{k}_"
    network = compose.add_prefix_graph(models[k].graph, prefix)
    photo, logits = network.input[0].name, network.output[0].name
    for node in network.node:
        node.input[:] = [inputs[stage.recipe.geometry] if name == photo else name for name in node.input]
    made = _Maker(prefix)
    hit, best, score = _rule(made, stage, logits)
    known = translate(stage.labels, labels)
    known[known < 0] = len(labels) - 1
    found = made.node("Gather", [made.constant(known), best])
    mine = [found, score, made.constant(np.array([k], np.int64))]
    if k + 1 < len(cascade.stages):
        then = helper.make_graph(
            [helper.make_node("Identity", [name], [f"{prefix}{out}_then"]) for name, out in zip(mine, OUTPUTS, strict=True)],
            f"{prefix}answers", [], _outputs(f"{prefix}{{}}_then"),
        )  # fmt: skip
        later = _stages(cascade, models, inputs, labels, k + 1)
        made.nodes.append(
            helper.make_node(
                "If", [hit], [f"{prefix}{out}_out" for out in OUTPUTS], then_branch=then, else_branch=later
            )
        )
        mine = [f"{prefix}{out}_out" for out in OUTPUTS]
    else:
        mine[0] = made.node("Where", [hit, found, made.constant(np.array([len(labels) - 1], np.int64))])
    for name, out in zip(mine, OUTPUTS, strict=True):
        made.nodes.append(helper.make_node("Identity", [name], [_final(prefix, out, k)]))
    return helper.make_graph(
        [*network.node, *made.nodes], f"{prefix}stage", [], _outputs(_final(prefix, "{}", k)),
        [*network.initializer, *made.constants],
    )  # fmt: skip


def _final(prefix: str, out: str, k: int) -> str:
    return f"{prefix}{out}" if k else out


def _outputs(pattern: str) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(pattern.format(name), kind, [1]) for name, kind in OUTPUTS.items()]


@dataclass
class _Maker:
    """Collects nodes and constants under unique names."""

    prefix: str

    def __post_init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def node(self, kind: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> str:
        """Add a node; returns the name of its first output."""
        names = [f"{self.prefix}rule{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names[0]

    def constant(self, value: Any) -> str:
        """Add an initializer; returns its name."""
        name = f"{self.prefix}constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def _rule(made: _Maker, stage: Stage, logits: str) -> tuple[str, str, str]:
    """edge.rule in ONNX, in float64 as there: names of (hit, best label, its probability), each of shape (1,)."""
    rule, axis = stage.rule, {"axis": -1}
    scaled = made.node("Div", [made.node("Cast", [logits], to=TensorProto.DOUBLE), made.constant(rule.temperature)])
    p = made.node("Softmax", [scaled], **axis)
    best = made.node("ArgMax", [p], keepdims=0, **axis)
    top = made.node("ReduceMax", [p, made.constant(np.array([-1]))], keepdims=0)
    enough = made.node("GreaterOrEqual", [_score(made, rule, p, top, stage.labels), made.constant(rule.threshold)])
    if OTHER not in stage.labels:
        return enough, best, top
    species = made.node("Not", [made.node("Equal", [best, made.constant(np.int64(stage.labels.index(OTHER)))])])
    return made.node("And", [enough, species]), best, top


def _score(made: _Maker, rule: Rule, p: str, top: str, labels: Sequence[str]) -> str:
    if rule.kind == "confidence":
        return top
    last = made.constant(np.array([-1]))
    two = made.node("TopK", [p, made.constant(np.array([2]))], outputs=2)
    second = made.node("ReduceMin", [two, last], keepdims=0)
    lead = made.node("Sub", [top, second])
    if rule.kind == "margin":
        return lead
    safe = made.node("Max", [p, made.constant(1e-12)])
    terms = made.node("Mul", [p, made.node("Log", [safe])])
    entropy = made.node("Neg", [made.node("ReduceSum", [terms, last], keepdims=0)])
    linear = made.constant(rule.weights[-1])
    features = [top, lead, entropy]
    if OTHER in labels:
        features.append(made.node("Gather", [p, made.constant(np.int64(labels.index(OTHER)))], axis=-1))
    for weight, feature in zip(rule.weights, features, strict=False):
        linear = made.node("Add", [linear, made.node("Mul", [feature, made.constant(weight)])])
    return made.node("Sigmoid", [linear])
