"""The network with its scaling inside."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.edge.recipe import Recipe
from pipeline.models.deployable import Deployable
from pipeline.models.registry import build

RECIPE = Recipe(size=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def photos(n: int = 4) -> torch.Tensor:
    return torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_network_sees_photos_as_the_recipe_scales_them() -> None:
    seen = Deployable(nn.Identity(), RECIPE)(photos())
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (RECIPE.mean, RECIPE.std))
    expected = (photos().permute(0, 3, 1, 2).float() / 255 - mean) / std
    assert seen.shape == (4, 3, 32, 32)
    torch.testing.assert_close(seen, expected, atol=2e-6, rtol=1e-6)


def test_colours_keep_their_order() -> None:
    red = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    red[..., 0] = 255
    seen = Deployable(nn.Identity(), Recipe(size=32))(red)
    assert seen.mean((0, 2, 3)).tolist() == pytest.approx([1, -1, -1])


def test_logits_equal_scaling_then_network() -> None:
    torch.manual_seed(0)
    network = build("test_resnet", 3).eval()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (RECIPE.mean, RECIPE.std))
    with torch.inference_mode():
        expected = network((photos().permute(0, 3, 1, 2) / 255 - mean) / std)
        torch.testing.assert_close(Deployable(network, RECIPE)(photos()), expected, atol=1e-4, rtol=1e-4)


def test_scaling_is_neither_learnt_nor_saved() -> None:
    network = build("test_resnet", 3)
    model = Deployable(network, RECIPE)
    assert [name.removeprefix("network.") for name in model.state_dict()] == list(network.state_dict())
    assert len(list(model.parameters())) == len(list(network.parameters()))
