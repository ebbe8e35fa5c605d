"""Taking channels out is the same as silencing them, in every family; a history replays to the same network."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from test_checkpoint import edit
from torch import Tensor, nn

from pipeline.edge.recipe import Recipe
from pipeline.errors import ModelError
from pipeline.labels import LabelSpace
from pipeline.models.checkpoint import ModelCard, load_model, save_model
from pipeline.models.registry import build
from pipeline.models.surgery import Removed, dependencies, remove, replay

SIZE = 32
FAMILIES = ["mcunet-in2", "mobilenetv3_small_050", "mobilenet_v3_small", "tf_efficientnet_lite0", "test_resnet"]
HISTORY: list[dict[str, Any]] = [{"removed": [["conv1.0", [0, 2]], ["layer1.0.conv1", [1, 5, 6]]]}]


def network(name: str) -> nn.Module:
    """With running statistics and scales that differ from channel to channel."""
    torch.manual_seed(0)
    made = build(name, 5).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.5, 0.5)
    return made


def groups(made: nn.Module) -> list[Any]:
    head = [module for name, module in made.named_modules() if name in ("classifier", "fc", "head.fc", "classifier.3")]
    assert head
    kept = [module for layer in head for module in layer.modules()]
    found: list[Any] = list(dependencies(made, SIZE).get_all_groups(ignored_layers=kept))
    return found


def silence(made: nn.Module, removed: Removed) -> None:
    """Set all that makes these channels to zero, so that they carry nothing."""
    graph = dependencies(made, SIZE)
    for layer, channels in removed:
        root = made.get_submodule(layer)
        for item in graph.get_pruning_group(root, graph.get_pruner_of_module(root).prune_out_channels, channels):
            module, out = item.dep.target.module, item.dep.handler.__name__ == "prune_out_channels"
            if out and isinstance(module, (nn.Conv2d, nn.Linear, nn.BatchNorm2d)):
                for tensor in (module.weight, module.bias):
                    if tensor is not None:
                        tensor.data[item.idxs] = 0


@pytest.mark.parametrize("name", FAMILIES)
def test_removing_channels_is_silencing_them(name: str) -> None:
    made = network(name)
    names = {module: name for name, module in made.named_modules()}
    removed = [(names[group[0].dep.target.module], [1, 4, 6]) for group in groups(made)]
    assert len(removed) >= 10
    silent, smaller = copy.deepcopy(made), copy.deepcopy(made)
    silence(silent, removed)
    remove(smaller, SIZE, removed)
    photos = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        expected = silent(photos)
        assert torch.allclose(smaller(photos), expected, atol=1e-4 * float(expected.abs().max()))
        assert not torch.allclose(made(photos), expected, atol=1e-2 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["test_convnext", "test_convnext2", "convnext_tiny"])
def test_layer_scale_and_layer_norm_follow_their_channels(name: str) -> None:
    torch.manual_seed(0)
    arguments = {"depths": (1, 1, 1, 1), "dims": (16, 24, 32, 40)} if name == "convnext_tiny" else {}
    made = build(name, 5, arguments).eval()
    block: Any = made.get_submodule("stages.1.blocks.0")
    block.gamma.data = torch.arange(float(len(block.gamma)))
    expected = [float(i) for i in range(len(block.gamma)) if i not in (1, 4, 6)]
    remove(made, SIZE, [("stages.1.blocks.0.conv_dw", [1, 4, 6])])
    assert block.gamma.tolist() == expected
    assert block.norm.normalized_shape == (len(expected),)
    assert made(torch.randn(2, 3, SIZE, SIZE)).shape == (2, 5)


def test_hidden_channels_of_convnext_are_silenced() -> None:
    torch.manual_seed(0)
    made = build("test_convnext", 5).eval()
    silent = copy.deepcopy(made)
    silence(silent, [("stages.1.blocks.0.mlp.fc1", [0, 7])])
    remove(made, SIZE, [("stages.1.blocks.0.mlp.fc1", [0, 7])])
    photos = torch.randn(2, 3, SIZE, SIZE)
    assert torch.allclose(made(photos), silent(photos), atol=1e-5)


# the model folder ---------------------------------------------------------------------------------------------------


def save(folder: Path, history: list[dict[str, Any]]) -> Tensor:
    """A pruned model's folder; returns what the model says of one photo."""
    made = network("test_resnet")
    replay(made, SIZE, history)
    labels = LabelSpace(("a", "b", "c", "d", "Other"))
    save_model(
        folder, made, ModelCard("m", "main", "test_resnet", {}, labels, Recipe(size=SIZE), "0", 1, pruning=history)
    )
    with torch.inference_mode():
        said: Tensor = made(torch.ones(1, 3, SIZE, SIZE))
    return said


def test_pruned_model_is_rebuilt_to_the_bit(tmp_path: Path) -> None:
    twice = [*HISTORY, {"ratio": 0.1, "removed": [["conv1.0", [0]], ["layer2.0.conv2", [3]]]}]
    expected = save(tmp_path, twice)
    loaded, card = load_model(tmp_path)
    assert card.pruning == twice
    with torch.inference_mode():
        assert torch.equal(loaded(torch.ones(1, 3, SIZE, SIZE)), expected)
    stem: Any = loaded.get_submodule("conv1.0")
    assert stem.out_channels == 16 - 2 - 1


@pytest.mark.parametrize(
    "changes",
    [
        {"pruning": [{"removed": [["conv1.0", [0, 3]], ["layer1.0.conv1", [1, 5, 6]]]}]},
        {"pruning": []},
        {"pruning_hash": "000000000000"},
        {"arguments": {"drop_rate": 0.1}},
    ],
)
def test_edited_or_foreign_history_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    save(tmp_path, HISTORY)
    edit(tmp_path, **changes)
    with pytest.raises(ModelError, match="m: the pruning history was edited or is another network's"):
        load_model(tmp_path)


def test_history_without_a_hash_is_refused(tmp_path: Path) -> None:
    save(tmp_path, [])
    edit(tmp_path, pruning=HISTORY)
    with pytest.raises(ModelError, match=r"pruning_hash None is not \w{12}; prune again"):
        load_model(tmp_path)


def test_history_of_another_model_does_not_fit_the_weights(tmp_path: Path) -> None:
    save(tmp_path / "ours", HISTORY)
    save(tmp_path / "theirs", [{"removed": [["conv1.0", [3]]]}])
    (tmp_path / "ours" / "model.json").write_text((tmp_path / "theirs" / "model.json").read_text())
    with pytest.raises(ModelError, match="missing or not the file that model.json describes"):
        load_model(tmp_path / "ours")


@pytest.mark.parametrize(
    ("history", "words"),
    [
        ([{"removed": [["layer9.conv", [0]]]}], "names 'layer9.conv', which is no convolution or linear layer"),
        ([{"removed": [["bn1", [0]]]}], "names 'bn1', which is no convolution"),
        ([{"removed": [["layer1.0.conv1", [10_000]]]}], "channels from layer1.0.conv1 that its"),
        ([{"removed": [["layer1.0.conv1", [-1]]]}], "channels from layer1.0.conv1 that its"),
        ([{"removed": [["layer1.0.conv1", [1, 1]]]}], "channels from layer1.0.conv1 that its"),
        ([{"removed": [["layer1.0.conv1", []]]}], "channels from layer1.0.conv1 that its"),
        ([{"removed": [["layer1.0.conv1", list(range(32))]]}], "would leave no channel in layer1.0.conv1"),
        ([{"ratio": 0.5}], "no step of a pruning history"),
        ([{"removed": "conv1"}], "no step of a pruning history"),
        ([{"removed": [["conv1.0", ["x"]]]}], "no step of a pruning history"),
    ],
)
def test_history_that_does_not_fit_the_network_is_told(history: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        replay(network("test_resnet"), SIZE, history)
