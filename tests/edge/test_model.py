"""One exported file: what it says of itself is checked before anything is asked of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from toy import COLOURS, card, write_model

from pipeline.edge.errors import BundleError
from pipeline.edge.model import Model, wants_exact_int8
from pipeline.edge.recipe import Recipe
from pipeline.labels import LabelSpace
from pipeline.models.checkpoint import ModelCard


def test_labels_recipe_and_logits(tmp_path: Path) -> None:
    recipe = Recipe(size=48, crop=0.5, decode_side=100)
    model = Model(write_model(tmp_path / "main.onnx", COLOURS, recipe=recipe))
    assert model.labels == tuple(COLOURS)
    assert model.recipe == recipe
    photos = np.zeros((5, 48, 48, 3), np.uint8) + np.array(list(COLOURS.values()), np.uint8)[:, None, None]
    assert model.logits(photos).shape == (5, len(COLOURS))
    assert model.logits(photos).argmax(1).tolist() == [0, 1, 2, 3, 4]


def test_the_toy_says_of_itself_what_an_export_says() -> None:
    real = ModelCard("main", "main", "x", {}, LabelSpace(tuple(COLOURS)), Recipe(), "", 0).to_dict()
    assert set(card(list(COLOURS))) == {*real, "precision"}


def test_threads_are_set_and_telemetry_is_off(tmp_path: Path) -> None:
    model = Model(write_model(tmp_path / "main.onnx", COLOURS), threads=2)
    options = model.session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert model.session.get_providers() == ["CPUExecutionProvider"]
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no model file .*main.onnx"):
        Model(tmp_path / "main.onnx")


@pytest.mark.parametrize("content", [b"", b"not a network at all", b"\x08\x0a" * 40], ids=["empty", "text", "noise"])
def test_not_an_onnx_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "main.onnx").write_bytes(content)
    with pytest.raises(BundleError, match="main.onnx (cannot be loaded|does not carry)"):
        Model(tmp_path / "main.onnx")


def test_truncated_onnx_file(tmp_path: Path) -> None:
    path = write_model(tmp_path / "main.onnx", COLOURS)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BundleError, match="main.onnx"):
        Model(path)


def test_foreign_onnx_file(tmp_path: Path) -> None:
    path = write_model(tmp_path / "main.onnx", COLOURS)
    proto = onnx.load(path)
    del proto.metadata_props[:]
    onnx.save_model(proto, path)
    with pytest.raises(BundleError, match="main.onnx does not carry labels and recipe; not exported by this"):
        Model(path)


def without(key: str) -> Any:
    return lambda data: {k: v for k, v in data.items() if k != key}


def changed(**values: Any) -> Any:
    return lambda data: {**data, **values}


@pytest.mark.parametrize(
    "edit",
    [
        lambda data: [data],
        lambda data: "text",
        lambda data: None,
        without("labels"),
        without("recipe"),
        without("label_hash"),
        without("recipe_hash"),
        changed(labels=None),
        changed(labels=[1, 2, 3, 4, 5]),
        changed(recipe={}),
        changed(recipe={"size": 0}),
        changed(recipe={**Recipe().to_dict(), "later": 1}),
    ],
)
def test_metadata_that_are_not_ours(tmp_path: Path, edit: Any) -> None:
    with pytest.raises(BundleError, match="main.onnx does not carry labels and recipe"):
        Model(write_model(tmp_path / "main.onnx", COLOURS, edit=edit))


@pytest.mark.parametrize(
    "edit",
    [
        lambda data: {**data, "labels": ["Apis cerana", *data["labels"][1:]]},
        lambda data: {**data, "labels": data["labels"][::-1]},
        lambda data: {**data, "recipe": {**data["recipe"], "crop": 0.5}},
    ],
    ids=["renamed", "reordered", "recipe"],
)
def test_edited_metadata(tmp_path: Path, edit: Any) -> None:
    with pytest.raises(BundleError, match="do not fit their hash; the file's metadata were edited"):
        Model(write_model(tmp_path / "main.onnx", COLOURS, edit=edit))


def test_a_network_with_another_number_of_answers_than_labels(tmp_path: Path) -> None:
    fewer = list(COLOURS)[:3]
    with pytest.raises(BundleError, match="main.onnx names 3 labels, but its network answers"):
        Model(write_model(tmp_path / "main.onnx", COLOURS, edit=lambda data: card(fewer)))


def test_a_network_whose_output_names_no_shape(tmp_path: Path) -> None:
    path = write_model(tmp_path / "main.onnx", COLOURS)
    proto = onnx.load(path)
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("output", TensorProto.FLOAT, None))
    onnx.save_model(proto, path)
    assert Model(path).labels == tuple(COLOURS)  # onnxruntime infers it from the graph


def test_answers_that_are_no_numbers_are_an_error_and_no_species(tmp_path: Path) -> None:
    model = Model(write_model(tmp_path / "main.onnx", COLOURS, sharpness=float("nan")))
    with pytest.raises(BundleError, match="main.onnx answers numbers that are not finite"):
        model.logits(np.zeros((1, 32, 32, 3), np.uint8))


@pytest.mark.parametrize(
    ("flags", "expected"), [("avx512_vnni", False), ("avx_vnni", False), ("avx2", True), ("", True)]
)
def test_int8_sums_are_exact_on_every_processor(monkeypatch: pytest.MonkeyPatch, flags: str, expected: bool) -> None:
    monkeypatch.setattr(Path, "is_file", lambda self: bool(flags))
    monkeypatch.setattr(Path, "read_text", lambda self: flags)
    assert wants_exact_int8() == expected
