"""The model folder: what is saved is what is loaded, and what was edited is refused."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import __version__
from pipeline.edge.recipe import Recipe
from pipeline.errors import DataError, ModelError
from pipeline.files import sha256
from pipeline.labels import LabelSpace
from pipeline.models.checkpoint import ModelCard, load_model, read_card, save_model
from pipeline.models.registry import build

CARD = ModelCard(
    name="cache_0.5_0",
    role="cache",
    architecture="test_resnet",
    arguments={"drop_rate": 0.1},
    labels=LabelSpace(("Apis mellifera", "Pieris rapæ", "Other")),
    recipe=Recipe(size=32, mean=(0.1, 0.2, 0.3)),
    data_hash="0123456789ab",
    seed=7,
    window=(0, 2),
    threshold=0.5,
    pretrained="backbone.safetensors",
    metrics={"val_acc": 0.5},
    training={"epoch": 3, "finished": True},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(tmp_path / "model", build("test_resnet", 3, CARD.arguments), CARD)
    return tmp_path / "model"


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_saved_model_answers_the_same_to_the_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build("test_resnet", 3, CARD.arguments)
    network(torch.randn(4, 3, 32, 32))  # moves the running statistics, which are buffers
    save_model(tmp_path, network.to(memory_format=torch.channels_last), CARD)
    loaded, _ = load_model(tmp_path)
    photos = torch.randn(2, 3, 32, 32)
    assert not loaded.training
    with torch.inference_mode():
        expected = network.eval()(photos)
        assert torch.equal(loaded.to(memory_format=torch.channels_last)(photos), expected)


def test_card_comes_back_as_it_was(folder: Path) -> None:
    assert read_card(folder) == replace(CARD, weights_sha256=sha256(folder / "weights.safetensors"))
    main = replace(CARD, name="main", role="main", window=None, threshold=None, labels=LabelSpace(("a", "b")))
    assert ModelCard.from_dict(json.loads(json.dumps(main.to_dict()))) == main


def test_card_tells_hashes_and_versions(folder: Path) -> None:
    data = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert (data["label_hash"], data["recipe_hash"]) == (CARD.labels.hash, CARD.recipe.hash)
    assert data["versions"]["ommatidia"] == __version__
    assert data["versions"]["torch"].startswith(torch.__version__.partition("+")[0])
    assert data["labels"] == ["Apis mellifera", "Pieris rapæ", "Other"]


def test_folder_holds_no_pickle_and_no_path(folder: Path) -> None:
    assert sorted(os.listdir(folder)) == ["model.json", "weights.safetensors"]
    length = int.from_bytes((folder / "weights.safetensors").read_bytes()[:8], "little")
    header = json.loads((folder / "weights.safetensors").read_bytes()[8 : 8 + length])
    assert "fc.weight" in header
    text = (folder / "model.json").read_text()
    assert str(folder.parent) not in text
    assert not re.search(r'"[^"]*/[^"]*/', text)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"labels": ["Pieris rapæ", "Apis mellifera", "Other"]}, "labels"),
        ({"labels": ["Apis mellifera", "Pieris rapae", "Other"]}, "labels"),
        ({"label_hash": "000000000000"}, "labels"),
        ({"recipe": {**CARD.recipe.to_dict(), "size": 48}}, "recipes"),
        ({"recipe": {**CARD.recipe.to_dict(), "mean": [0.5, 0.5, 0.5]}}, "recipes"),
    ],
)
def test_edited_labels_and_recipes_are_refused(folder: Path, changes: dict[str, Any], what: str) -> None:
    edit(folder, **changes)
    for read in (read_card, load_model):
        with pytest.raises(ModelError, match=f"cache_0.5_0: the {what} were edited"):
            read(folder)


def test_other_weights_are_refused(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="missing or not the file that model.json describes; train again"):
        load_model(folder)
    weights.unlink()
    with pytest.raises(ModelError, match="missing or not the file that model.json describes; train again"):
        load_model(folder)


@pytest.mark.parametrize("change", [{"architecture": "mcunet-in2", "arguments": {}}, {"architecture": "test_convnext"}])
def test_weights_of_another_architecture_are_refused(folder: Path, change: dict[str, Any]) -> None:
    edit(folder, **change)
    with pytest.raises(ModelError, match=rf"weights\.safetensors does not fit {change['architecture']} with arguments"):
        load_model(folder)


def test_missing_model_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no trained model in .*nowhere; run train\.py with the same --config first"):
        load_model(tmp_path / "nowhere")


def test_card_of_a_later_format_is_refused(folder: Path) -> None:
    edit(folder, format=2)
    with pytest.raises(ModelError, match="model card of format 2; this version reads 1"):
        read_card(folder)


def _without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda data: {name: value for name, value in data.items() if name != key}


@pytest.mark.parametrize(
    "change",
    [_without("architecture"), _without("label_hash"), lambda _: [], lambda _: "text",
     lambda data: {**data, "recipe": {"size": 32}}, lambda data: {**data, "recipe": 3},
     lambda data: {**data, "labels": None}],
)  # fmt: skip
def test_file_that_is_no_card_is_refused(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ModelError, match=r"model\.json is not a model card"):
        read_card(folder)


def test_broken_json_is_refused(folder: Path) -> None:
    (folder / "model.json").write_text('{"format": 1, ')
    with pytest.raises(DataError, match=r"model\.json cannot be read as the model card"):
        read_card(folder)
