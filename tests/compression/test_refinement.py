"""What makes int8 as good as fp32: kernels that keep their sums, corrected biases, bytes as input, layers in float."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from pipeline.compression.bias import _add
from pipeline.compression.export import export, logits
from pipeline.compression.mixed import Layer, search, sensitivity
from pipeline.compression.quality import compare, layer_table, operators_here, report
from pipeline.compression.quantization import Prepared, prepared, write_int8, write_one_layer
from pipeline.compression.rounding import keep_sums
from pipeline.edge.model import Model
from pipeline.edge.recipe import Recipe
from pipeline.sections.compression import Quantize

from .conftest import CARD, Exported, photos, quantized

Make = Callable[[str], Exported]


# rounding -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("shape", [(8, 1, 3, 3), (4, 3, 5, 5)])
def test_kernels_keep_their_sums_on_the_grid(shape: tuple[int, ...], per_channel: bool) -> None:
    weights = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = keep_sums(weights, per_channel)
    peak = np.abs(weights).max(axis=(1, 2, 3) if per_channel else None, keepdims=True)
    step = peak / 127
    assert np.allclose(found / step, np.rint(found / step), atol=1e-3)
    assert np.allclose(np.abs(found).max(axis=(1, 2, 3) if per_channel else None, keepdims=True), peak)
    assert (np.abs(found - weights) <= 1.001 * step).all()
    nearest = np.rint(weights / step) * step
    assert (np.abs((found - weights).sum((2, 3))) <= 0.501 * step.reshape(-1, 1)).all()
    assert (np.abs((nearest - weights).sum((2, 3))) > 0.501 * step.reshape(-1, 1)).any()  # plain rounding does not


def test_a_kernel_of_zeros_stays_so() -> None:
    assert (keep_sums(np.zeros((2, 1, 3, 3), np.float32), True) == 0).all()


# biases ---------------------------------------------------------------------------------------------------------------


def test_refined_int8_has_the_mean_logits_of_fp32(exported: Make, tmp_path: Path) -> None:
    one, given = exported("mcunet-in2"), photos(24, 99)
    errors = {}
    for refine in (True, False):
        quantized(one.fp32, tmp_path / "model.onnx", given, refine=refine)
        errors[refine] = Model(tmp_path / "model.onnx").logits(given) - Model(one.fp32).logits(given)
    assert np.abs(errors[True].mean(0)).max() < 0.8 * np.abs(errors[False].mean(0)).max()


# bytes as input -------------------------------------------------------------------------------------------------------


class Small(nn.Module):
    """One convolution with padding, and the mean."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.convolution(planes)).mean((2, 3))


@pytest.fixture
def small(tmp_path: Path) -> Callable[[Recipe], Path]:
    def make(recipe: Recipe) -> Path:
        export(Small(), replace(CARD, recipe=recipe), tmp_path / "small.onnx", photos(4), 1e-3)
        return tmp_path / "small.onnx"

    return make


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_where_colours_are_scaled_alike_the_photo_is_the_quantized_input(
    small: Callable[[Recipe], Path], tmp_path: Path, form: str
) -> None:
    source, target = small(Recipe(size=48, crop=1.0)), tmp_path / "int8.onnx"
    quantized(source, target, photos(16, 3), format=form)
    assert not {"Cast", "Mul"} & set(operators(target))
    scales = [numpy_helper.to_array(t) for t in onnx.load(target).graph.initializer if "scale" in t.name]
    assert any(scale.size == 1 and scale == pytest.approx(2 / 255) for scale in scales)
    some = photos(12, 7)
    assert np.abs(Model(target).logits(some) - Model(source).logits(some)).max() < 0.01


@pytest.mark.parametrize("activations", ["u8", "s8"])
def test_else_the_scaling_stays_float(small: Callable[[Recipe], Path], tmp_path: Path, activations: str) -> None:
    alike = activations == "s8"  # u8 bytes are no s8 input
    recipe = Recipe(size=48, crop=1.0) if alike else Recipe(size=48, crop=1.0, mean=(0.4, 0.5, 0.6))
    quantized(small(recipe), tmp_path / "int8.onnx", photos(16, 3), activations=activations)
    assert {"Cast", "Mul", "Add"} <= set(operators(tmp_path / "int8.onnx"))


# mixed precision ------------------------------------------------------------------------------------------------------


@pytest.fixture
def ready(exported: Make) -> Any:
    with prepared(exported("test_resnet").fp32, photos(24, 99), Quantize()) as found:
        yield found


def test_layers_are_measured_one_by_one_noisiest_first(ready: Prepared) -> None:
    layers = sensitivity(ready)
    assert {layer.name for layer in layers} == set(ready.layers)
    assert {"Conv", "Gemm"} <= {layer.operator for layer in layers}
    noises = [layer.noise for layer in layers]
    assert noises == sorted(noises, reverse=True)
    assert noises[0] > 0
    assert {"Cast", "Clip", "Relu", "Transpose"}.isdisjoint(layer.operator for layer in layers)


def test_layers_that_stay_float_are_float(ready: Prepared, tmp_path: Path) -> None:
    first, second = [name for name, operator in ready.layers.items() if operator == "Conv"][:2]
    write_int8(ready, tmp_path / "model.onnx", [second])
    nodes = {node.name: node for node in onnx.load(tmp_path / "model.onnx").graph.node}
    dequantized = {name for node in nodes.values() if node.op_type == "DequantizeLinear" for name in node.output}
    assert nodes[first].input[1] in dequantized
    assert nodes[second].input[1] not in dequantized


def drops(*values: float) -> Callable[[Path], dict[str, Any]]:
    """A judge that finds these drops, one after the other."""
    rest = iter(values)
    return lambda path: {"accuracy_drop": next(rest)}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The float layers of each model written."""
    calls: list[list[str]] = []
    monkeypatch.setattr("pipeline.compression.mixed.write_int8", lambda ready, target, names: calls.append(names))
    return calls


LAYERS = [Layer(f"l{i}", "Conv", 1 / (i + 1)) for i in range(10)]


def found(judge: Callable[[Path], dict[str, Any]], allowed: float) -> list[dict[str, Any]]:
    nothing: Any = None
    return search(nothing, LAYERS, judge, allowed, Path("int8.onnx"))


def test_nothing_stays_float_where_int8_is_good_enough(written: list[list[str]]) -> None:
    assert found(drops(0.01), 0.01) == [{"float_layers": [], "accuracy_drop": 0.01}]
    assert written == [[]]


def test_the_noisiest_stay_float_until_it_is_good_enough(written: list[list[str]]) -> None:
    trials = found(drops(0.04, 0.03, 0.004), 0.005)
    assert trials[-1] == {"float_layers": ["l0", "l1"], "accuracy_drop": 0.004}
    assert written == [[], ["l0"], ["l0", "l1"]]


def test_no_more_layers_stay_float_than_needed(written: list[list[str]]) -> None:
    trials = found(drops(0.04, 0.03, 0.02, 0.001, 0.004), 0.005)
    assert [len(names) for names in written] == [0, 1, 2, 4, 3]
    assert (len(trials[-1]["float_layers"]), trials[-1]["accuracy_drop"]) == (3, 0.004)


def test_what_is_good_enough_is_written_again_where_fewer_layers_are_not(written: list[list[str]]) -> None:
    trials = found(drops(0.04, 0.03, 0.02, 0.001, 0.006), 0.005)
    assert [len(names) for names in written] == [0, 1, 2, 4, 3, 4]
    assert (len(trials[-1]["float_layers"]), trials[-1]["accuracy_drop"]) == (4, 0.001)


def test_layers_of_dynamic_int8_are_measured_and_kept_float_as_such(exported: Make, tmp_path: Path) -> None:
    with prepared(exported("test_resnet").fp32, photos(24, 99), Quantize(kind="dynamic")) as ready:
        first = {operator: name for name, operator in reversed(ready.layers.items())}
        for operator, integer in (("Conv", "ConvInteger"), ("Gemm", "MatMulInteger")):
            write_one_layer(ready, tmp_path / "one.onnx", first[operator])
            kinds = operators(tmp_path / "one.onnx")
            assert [kind for kind in kinds if "Integer" in kind or "QuantizeLinear" in kind] == [
                "DynamicQuantizeLinear",
                integer,
            ]
        write_int8(ready, tmp_path / "int8.onnx", [first["Gemm"]])
        assert "ConvInteger" in operators(tmp_path / "int8.onnx")
        assert "MatMulInteger" not in operators(tmp_path / "int8.onnx")


def test_a_bias_near_the_end_of_int32_does_not_turn_its_sign() -> None:
    bias = numpy_helper.from_array(np.array([2**31 - 10, -(2**31) + 10, 5], np.int32), "bias")
    _add(bias, np.array([100, -100, 2], np.float32))
    assert numpy_helper.to_array(bias).tolist() == [2**31 - 1, -(2**31), 7]


def test_the_best_trial_is_kept_where_none_is_good_enough(written: list[list[str]]) -> None:
    trials = found(drops(0.04, 0.02, 0.03, 0.025, 0.021), 0.005)
    assert [trial["accuracy_drop"] for trial in trials] == [0.04, 0.03, 0.025, 0.021, 0.02]
    assert [len(names) for names in written] == [0, 1, 2, 4, 5, 1]


@pytest.mark.parametrize(("layers", "needed", "tried"), [(1, 1, [0]), (2, 1, [0, 1]), (10, 5, [0, 1, 2, 4, 5]),
                         (60, 20, [0, 1, 2, 4, 8, 16, 30, 23, 19, 21, 20]), (60, 30, [0, 1, 2, 4, 8, 16, 30, 23, 26, 28, 29, 30]),
                         (60, 31, [0, 1, 2, 4, 8, 16, 30])])  # fmt: skip
def test_up_to_half_of_the_layers_stay_float(
    written: list[list[str]], layers: int, needed: int, tried: list[int]
) -> None:
    every = [Layer(f"l{i}", "Conv", 1 / (i + 1)) for i in range(layers)]
    judge = lambda path: {"accuracy_drop": 0.0 if len(written[-1]) >= needed else 1 / (len(written[-1]) + 1)}  # noqa: E731
    trials = search(None, every, judge, 0.005, Path("x"))  # type: ignore[arg-type]
    assert [len(names) for names in written] == tried
    assert len(trials[-1]["float_layers"]) == min(needed, layers // 2)


# figures --------------------------------------------------------------------------------------------------------------


def test_figures_side_by_side() -> None:
    truth = np.array([0, 1, 1, 0])
    fp32 = np.array([[2, 0], [0, 2], [0, 2], [0, 1]], np.float32)
    int8 = np.array([[2, 0], [0, 2], [3, 2], [0, 1]], np.float32)
    figures = compare(truth, fp32, int8)
    assert (figures["photos"], figures["accuracy_drop"], figures["agreement"]) == (4, 0.25, 0.75)
    assert (figures["fp32"]["accuracy"], figures["int8"]["accuracy"]) == (0.75, 0.5)
    assert figures["fp32"]["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert (figures["mse"], figures["mae"], figures["max_logit_difference"]) == (9 / 8, 3 / 8, 3)


def test_report_names_worst_layers_sizes_and_what_runs_here(exported: Make) -> None:
    one = exported("test_resnet")
    trials = [
        {"float_layers": [], "accuracy_drop": 0.02},
        {"float_layers": ["l0"], "accuracy_drop": 0.001, "agreement": 0.99},
    ]
    told = report(one.fp32, one.int8, LAYERS, trials, 0.005)
    assert told["size_ratio"] == pytest.approx(one.fp32.stat().st_size / one.int8.stat().st_size)
    assert told["val"] == {"accuracy_drop": 0.001, "agreement": 0.99}
    assert (told["within_max_drop"], told["layers"]) == (True, {"total": 10, "float": ["l0"]})
    assert told["worst_layers"][0] == {"name": "l0", "operator": "Conv", "noise": 1.0}
    assert [trial["float_layers"] for trial in told["trials"]] == [0, 1]
    assert told["operators_here"] == operators_here(one.int8)
    assert operators_here(one.int8)["QLinearConv"] > 5
    assert operators_here(one.fp32).get("QLinearConv") is None
    table = layer_table(LAYERS, ["l0"])
    assert table["precision"].tolist() == ["fp32"] + 9 * ["int8"]


def test_logits_of_a_graph_for_one_photo(tmp_path: Path) -> None:
    some = photos(5)
    export(Small(), CARD, tmp_path / "any.onnx", some, 1e-3)
    export(Small(), CARD, tmp_path / "one.onnx", some, 1e-3, batch=1)
    any_, one = Model(tmp_path / "any.onnx"), Model(tmp_path / "one.onnx")
    assert one.session.get_inputs()[0].shape == [1, 48, 48, 3]
    assert np.allclose(logits(one, some), logits(any_, some, batch=2), atol=1e-5)
