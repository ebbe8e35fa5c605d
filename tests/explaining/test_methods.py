"""The methods: where the answer is known by hand they find it; what they cannot explain they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from explaining.conftest import SIZE, Corner, Red, blob, subject
from pipeline.edge.recipe import Recipe
from pipeline.errors import ConfigError, ModelError
from pipeline.explaining.methods import METHODS, check_methods, relevance
from pipeline.explaining.network import last_map, neutral, readable
from pipeline.models.registry import build

PHOTO = blob(4, 20)
OF_PLACES = ("gradcam", "guided_gradcam")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("place", [(4, 4), (4, 20), (20, 4)])
def test_the_map_lies_on_what_the_network_looks_at(method: str, place: tuple[int, int]) -> None:
    found = relevance(subject(Red()).model, blob(*place), 0, method, seed=0)
    top, left = (value // 16 * 16 for value in place)
    assert found.shape == (SIZE, SIZE) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() == 1
    assert found[top : top + 16, left : left + 16].sum() > 0.9 * found.sum()


@pytest.mark.parametrize("method", [name for name in METHODS if name not in OF_PLACES])
def test_what_the_network_never_sees_is_no_evidence(method: str) -> None:
    photo = np.maximum(blob(4, 4), blob(20, 20))  # the same square twice
    found = relevance(subject(Corner()).model, photo, 0, method, seed=0)
    assert found[:16, :16].sum() > 0.9 * found.sum()


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_map_and_touches_no_other_draw(method: str) -> None:
    model = subject(Red()).model
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one = relevance(model, PHOTO, 0, method, seed=3)
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(one, relevance(model, PHOTO, 0, method, seed=3))


def test_noise_follows_the_seed() -> None:
    one, other = (relevance(subject(Red()).model, PHOTO, 0, "noise_tunnel", seed) for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_a_photo_without_evidence_has_an_empty_map() -> None:
    grey = np.full((SIZE, SIZE, 3), 120, np.uint8)
    for method in ("gradcam", "integrated_gradients", "occlusion"):
        assert not relevance(subject(Red()).model, grey, 0, method, seed=0).any()


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("mcunet-in2", "blocks.17"), ("test_efficientnet", "bn2"), ("mobilenetv3_small_050", "blocks"),
        ("test_convnext", "norm_pre"), ("test_resnet", "layer4"), ("resnet50_attention", "attention"),
    ],
)  # fmt: skip
def test_the_layer_of_grad_cam_is_found_by_structure(name: str, layer: str) -> None:
    torch.manual_seed(0)
    model = readable(build(name, 3).eval(), Recipe(size=64, crop=1.0))
    assert last_map(model, 64) == f"network.{layer}"
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    planes = [relevance(model, photo, target, "gradcam", seed=0) for target in range(3)]
    assert all(np.isfinite(plane).all() for plane in planes)
    assert any(np.ptp(plane) > 0 for plane in planes)


def test_the_network_itself_is_not_touched() -> None:
    network = Red()
    model = readable(network, Recipe(size=SIZE, crop=1.0))
    assert network.relu.inplace and network.red.weight.requires_grad
    assert not model.network.relu.inplace


def test_the_neutral_colour_is_what_scaling_takes_to_zero() -> None:
    model = readable(Red(), Recipe(size=SIZE, mean=(0.5, 0.4, 0.3)))
    assert neutral(model).flatten().tolist() == pytest.approx([127.5, 102, 76.5])


def test_relu6_is_explained_as_relu() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = readable(network, Recipe(size=SIZE, crop=1.0))
    x = torch.rand(1, SIZE, SIZE, 3) * 255
    assert torch.equal(model(x), readable(nn.Sequential(*network), Recipe(size=SIZE, crop=1.0))(x))
    for method in ("guided_gradcam", "deeplift"):
        assert np.isfinite(relevance(model, PHOTO, 0, method, seed=0)).all()


# what is refused ----------------------------------------------------------------------------------------------------


class Twice(Red):
    """One ReLU, asked twice."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(self.relu(self.relu(self.red(x)) - 0.01).mean((2, 3)))
        return logits


def test_deeplift_refuses_an_activation_that_is_asked_twice() -> None:
    with pytest.raises(ModelError, match="the network asks relu several times; take integrated_gradients"):
        relevance(subject(Twice()).model, PHOTO, 0, "deeplift", seed=0)
    assert relevance(subject(Twice()).model, PHOTO, 0, "guided_gradcam", seed=0).max() == 1


@pytest.mark.parametrize(
    ("name", "method", "said"),
    [
        ("test_convnext", "deeplift", "steps without a rule, such as gates or layer norm; take integrated_gradients"),
        ("test_efficientnet", "guided_gradcam", "guided backpropagation is made for ReLU; the network has SiLU"),
        ("test_vit", "gradcam", "the network has no last feature map of channels over places"),
    ],
)
def test_what_does_not_fit_a_network_is_refused_in_one_sentence(name: str, method: str, said: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(ModelError, match=said):
        relevance(
            readable(build(name, 3).eval(), Recipe(size=64, crop=1.0)),
            blob(4, 4).repeat(2, 0).repeat(2, 1),
            1,
            method,
            0,
        )


@pytest.mark.parametrize(("name", "said"), [("grad_cam", "did you mean gradcam?"), ("xyz", "methods: gradcam, ")])
def test_an_unknown_method_names_the_nearest(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"no method '{name}'; ") as error:
        check_methods(["saliency", name])
    assert said in str(error.value)
