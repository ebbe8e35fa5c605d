"""int8: static in both formats or dynamic, calibrated on a seeded and balanced sample of train."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from pipeline.compression.quantization import calibration_sample
from pipeline.edge.errors import BundleError
from pipeline.edge.model import Model
from pipeline.files import sha256
from pipeline.labels import OTHER, LabelSpace

from .conftest import Exported, photos, quantized

Make = Callable[[str], Exported]
NETWORKS = ["mcunet-in2", "test_resnet"]


class Graph:
    """A file's nodes and constants by name."""

    def __init__(self, path: Path) -> None:
        self.nodes = list(onnx.load(path).graph.node)
        self.constants: dict[str, NDArray] = {
            entry.name: numpy_helper.to_array(entry) for entry in onnx.load(path).graph.initializer
        }
        self.maker = {output: node for node in self.nodes for output in node.output}

    def of(self, kind: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if node.op_type == kind]


@pytest.mark.parametrize("name", NETWORKS)
def test_file_is_smaller(exported: Make, name: str) -> None:
    one = exported(name)
    assert one.int8.stat().st_size < 0.4 * one.fp32.stat().st_size


@pytest.mark.parametrize("name", NETWORKS)
def test_convolutions_have_signed_weights_per_channel_and_quantized_inputs(exported: Make, name: str) -> None:
    graph = Graph(exported(name).int8)
    assert len(graph.of("Conv")) > 5
    for conv in graph.of("Conv"):
        photo, weight = (graph.maker[conv.input[i]] for i in (0, 1))
        assert (photo.op_type, weight.op_type) == ("DequantizeLinear", "DequantizeLinear")
        values, scales, zeros = (graph.constants[key] for key in weight.input)
        assert values.dtype == zeros.dtype == np.int8
        assert scales.shape == (values.shape[0],)
        assert len(set(scales.tolist())) > 1
        assert (zeros == 0).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_activations_are_unsigned_throughout(exported: Make, name: str) -> None:
    graph = Graph(exported(name).int8)
    kinds = Counter(str(graph.constants[node.input[2]].dtype) for node in graph.of("QuantizeLinear"))
    assert set(kinds) == {"uint8"}
    assert kinds["uint8"] > 10
    assert not {node.op_type for node in graph.nodes} & {"QLinearConv", "ConvInteger", "DynamicQuantizeLinear"}


@pytest.mark.parametrize("name", NETWORKS)
def test_scaling_before_the_first_convolution_stays_float(exported: Make, name: str) -> None:
    graph = Graph(exported(name).int8)
    chain, value = [], "input"
    while chain[-1:] != ["QuantizeLinear"]:
        node = next(node for node in graph.nodes if value in node.input and node.op_type != "Shape")
        chain.append(node.op_type)
        value = node.output[0]
    assert chain == ["Transpose", "Cast", "Mul", "Add", "QuantizeLinear"]
    mul, add = graph.of("Mul")[0], graph.of("Add")[0]
    for node in (mul, add):
        assert graph.constants[node.input[1]].dtype == np.float32
        assert graph.constants[node.input[1]].size == 3


@pytest.mark.parametrize("name", NETWORKS)
def test_answers_are_mostly_those_of_fp32(exported: Make, name: str) -> None:
    one, some = exported(name), photos(60, 55)
    fp32, int8 = (Model(path).logits(some) for path in (one.fp32, one.int8))
    assert (fp32.argmax(1) == int8.argmax(1)).mean() >= 0.9
    assert len(set(fp32.argmax(1))) > 1
    assert np.abs(fp32 - int8).mean() < 0.2 * fp32.std()
    assert not np.array_equal(fp32, int8)


def test_int8_file_carries_the_card_of_its_source(exported: Make) -> None:
    one = exported("test_resnet")
    fp32, int8 = (json.loads(onnx.load(path).metadata_props[0].value) for path in (one.fp32, one.int8))
    assert int8 == {**fp32, "precision": "int8"}
    assert Model(one.int8).labels == one.card.labels.names


def test_same_photos_give_the_same_bytes(exported: Make, tmp_path: Path) -> None:
    one = exported("test_resnet")
    source = sha256(one.fp32)
    quantized(one.fp32, tmp_path / "again.onnx", photos(24, 99))
    assert sha256(tmp_path / "again.onnx") == sha256(one.int8)
    quantized(one.fp32, tmp_path / "other.onnx", photos(24, 98))
    assert sha256(tmp_path / "other.onnx") != sha256(one.int8)
    assert sha256(one.fp32) == source
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.onnx", "other.onnx"]


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_other_methods_of_calibration_work(exported: Make, tmp_path: Path, method: str) -> None:
    one, some = exported("test_resnet"), photos(30, 44)
    quantized(one.fp32, tmp_path / "model.onnx", photos(16, 99), method=method, percentile=99.9)
    fp32, int8 = (Model(path).logits(some) for path in (one.fp32, tmp_path / "model.onnx"))
    assert (fp32.argmax(1) == int8.argmax(1)).mean() >= 0.8
    assert sha256(tmp_path / "model.onnx") != sha256(one.int8)


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
@pytest.mark.parametrize("activations", ["u8", "s8"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_every_static_form_answers_as_fp32_does(
    exported: Make, tmp_path: Path, form: str, activations: str, per_channel: bool
) -> None:
    one, some = exported("test_resnet"), photos(30, 44)
    quantized(
        one.fp32, tmp_path / "model.onnx", photos(16, 99), format=form, activations=activations, per_channel=per_channel
    )
    fp32, int8 = (Model(path).logits(some) for path in (one.fp32, tmp_path / "model.onnx"))
    assert (fp32.argmax(1) == int8.argmax(1)).mean() >= 0.85
    graph = Graph(tmp_path / "model.onnx")
    assert bool(graph.of("QLinearConv")) == (form == "qoperator")
    kinds = {str(graph.constants[node.input[2]].dtype) for node in graph.of("QuantizeLinear")}
    assert kinds == {"uint8" if activations == "u8" else "int8"}
    weights = [values for values in graph.constants.values() if values.dtype == np.int8 and values.ndim == 4]
    scales = [values for name, values in graph.constants.items() if "weight" in name and name.endswith("scale")]
    assert weights
    assert any(scale.size > 1 for scale in scales) == per_channel


def test_dynamic_has_no_ranges_and_runs(exported: Make, tmp_path: Path) -> None:
    one, some = exported("test_resnet"), photos(30, 44)
    quantized(one.fp32, tmp_path / "model.onnx", photos(16, 99), kind="dynamic")
    graph = Graph(tmp_path / "model.onnx")
    assert graph.of("ConvInteger")
    assert not graph.of("QuantizeLinear")
    fp32, int8 = (Model(path).logits(some) for path in (one.fp32, tmp_path / "model.onnx"))
    assert (fp32.argmax(1) == int8.argmax(1)).mean() >= 0.85
    assert (tmp_path / "model.onnx").stat().st_size < 0.4 * one.fp32.stat().st_size


def test_interrupted_quantization_leaves_the_old_file(
    exported: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model.int8.onnx"
    target.write_bytes(b"an older one")

    def fail(*given: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("pipeline.compression.quantization.correct_biases", fail)
    with pytest.raises(OSError, match="disk full"):
        quantized(exported("test_resnet").fp32, target, photos(16))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"an older one"]


def test_onnx_of_another_project_is_refused_and_the_old_file_stays(exported: Make, tmp_path: Path) -> None:
    target, foreign = tmp_path / "model.int8.onnx", tmp_path / "foreign.onnx"
    target.write_bytes(b"an older one")
    proto = onnx.load(exported("test_resnet").fp32)
    del proto.metadata_props[:]
    onnx.save_model(proto, foreign)
    with pytest.raises(BundleError, match=r"foreign\.onnx does not carry labels and recipe; not exported by this"):
        quantized(foreign, target, photos(16))
    assert target.read_bytes() == b"an older one"


def test_operator_that_the_runtime_lacks_is_refused(exported: Make, tmp_path: Path) -> None:
    proto = onnx.load(exported("test_resnet").fp32)
    next(node for node in proto.graph.node if node.op_type == "Conv").op_type = "Odd"
    onnx.save_model(proto, tmp_path / "odd.onnx")
    with pytest.raises(BundleError, match=r"odd\.onnx cannot be loaded: .*INVALID_GRAPH"):
        quantized(tmp_path / "odd.onnx", tmp_path / "model.int8.onnx", photos(16))
    assert [path.name for path in tmp_path.iterdir()] == ["odd.onnx"]


SPECIES = LabelSpace(("Apis", "Bombus", "Colias", "Danaus"))


# the sample -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def train() -> pd.DataFrame:
    species = ["Apis"] * 80 + ["Bombus"] * 15 + ["Colias"] * 4 + ["Danaus"]
    return pd.DataFrame({"species": species, "image_path": [f"{i}.jpg" for i in range(100)], "split": "train"})


def test_sample_takes_the_species_in_turn(train: pd.DataFrame) -> None:
    counts = calibration_sample(train, 25, 0, SPECIES)["species"].value_counts().to_dict()
    assert counts == {"Apis": 10, "Bombus": 10, "Colias": 4, "Danaus": 1}


def test_sample_of_a_cache_is_balanced_over_its_labels(train: pd.DataFrame) -> None:
    sample = calibration_sample(train, 8, 0, LabelSpace(("Colias", OTHER)))["species"]
    assert [name == "Colias" for name in sample] == 4 * [True, False]


def test_smallest_sample_has_every_species_once(train: pd.DataFrame) -> None:
    assert sorted(calibration_sample(train, 4, 0, SPECIES)["species"]) == ["Apis", "Bombus", "Colias", "Danaus"]


def test_sample_is_drawn_by_the_seed_from_the_rows_given(train: pd.DataFrame) -> None:
    first, again, other = (calibration_sample(train, 25, seed, SPECIES) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert set(first["image_path"]) != set(other["image_path"])
    assert set(first["image_path"]) <= set(train["image_path"])
    assert not first["image_path"].duplicated().any()
    assert list(first.columns) == list(train.columns)


def test_sample_of_everything_is_everything(train: pd.DataFrame) -> None:
    assert sorted(calibration_sample(train, 100, 0, SPECIES).index) == list(train.index)


def test_sample_larger_than_train_is_all_of_it(train: pd.DataFrame) -> None:
    assert sorted(calibration_sample(train, 101, 0, SPECIES).index) == list(train.index)
