"""Starting from another model: the backbone as it is, the classifier by the names of the labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.edge.recipe import Recipe
from pipeline.errors import ModelError
from pipeline.labels import LabelSpace
from pipeline.models.checkpoint import ModelCard, save_model
from pipeline.models.registry import build
from pipeline.models.reuse import reuse, weights_hash

FOREIGN = LabelSpace(("Apis", "Bombus", "Colias", "Other"))
CARD = ModelCard("foreign", "cache", "test_resnet", {}, FOREIGN, Recipe(size=32), "d", 0, training={"finished": True})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    save_model(tmp_path / "foreign", build("test_resnet", 4), CARD)
    return tmp_path / "foreign"


def test_rows_of_the_classifier_are_joined_by_name(folder: Path) -> None:
    torch.manual_seed(1)
    theirs = build("test_resnet", 4).state_dict()
    network = build("test_resnet", 4)
    own = network.fc.weight.detach().clone()
    assert reuse(network, "test_resnet", LabelSpace(("Danaus", "Colias", "Apis", "Other")), folder) == 2
    assert torch.equal(network.conv1[0].weight, theirs["conv1.0.weight"])
    expected = [own[0], theirs["fc.weight"][2], theirs["fc.weight"][0], own[3]]  # another "Other" is another label
    assert torch.equal(network.fc.weight, torch.stack(expected))


def test_same_labels_take_over_everything(folder: Path) -> None:
    network = build("test_resnet", 4)
    assert reuse(network, "test_resnet", FOREIGN, folder) == 4
    torch.manual_seed(1)
    assert torch.equal(network.fc.bias, build("test_resnet", 4).fc.bias)


def test_inner_layers_of_a_deep_classifier_come_along(tmp_path: Path) -> None:
    arguments = {"hidden": [4, 3]}  # as many as there are labels
    card = replace(CARD, architecture="resnet50_attention", arguments=arguments)
    foreign = build("resnet50_attention", 4, arguments)
    save_model(tmp_path / "deep", foreign, card)
    network = build("resnet50_attention", 2, arguments)
    assert reuse(network, "resnet50_attention", LabelSpace(("Colias", "Danaus")), tmp_path / "deep") == 1
    ours, theirs = network.state_dict(), foreign.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if not name.startswith("fc.9."))
    assert torch.equal(ours["fc.9.weight"][0], theirs["fc.9.weight"][2])


@pytest.mark.parametrize("hidden", [[], [4], [5, 3], [4, 5]])
def test_another_deep_classifier_is_refused(hidden: list[int], tmp_path: Path) -> None:
    arguments = {"hidden": [4, 3]}
    card = replace(CARD, architecture="resnet50_attention", arguments=arguments)
    save_model(tmp_path / "deep", build("resnet50_attention", 4, arguments), card)
    network = build("resnet50_attention", 4, {"hidden": hidden})
    with pytest.raises(ModelError, match=r"deep has a classifier of other layers; give the same arguments: .*\[4, 3\]"):
        reuse(network, "resnet50_attention", FOREIGN, tmp_path / "deep")


def test_other_architecture_and_unfinished_training_are_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="is a test_resnet, not a test_convnext; give weights of the same"):
        reuse(build("test_convnext", 4), "test_convnext", FOREIGN, folder)
    save_model(folder, build("test_resnet", 4), replace(CARD, training={"finished": False}))
    with pytest.raises(ModelError, match=r"foreign is still in training; let its train\.py end first"):
        reuse(build("test_resnet", 4), "test_resnet", FOREIGN, folder)


def test_hash_stands_for_the_bytes(folder: Path) -> None:
    before = weights_hash(folder)
    save_model(folder, build("test_resnet", 4), CARD)
    assert weights_hash(folder) != before
    assert weights_hash(folder / "weights.safetensors") == weights_hash(folder)
