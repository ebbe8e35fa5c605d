"""ResNet-50 with channel attention and a deep classifier: an example of a custom network in one file."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.models import torchvision_shim

torchvision_shim.ensure()

from torchvision.models.resnet import Bottleneck, ResNet  # noqa: E402

NAMES = ("resnet50_attention",)
BASE = "resnet50"  # of torchvision, whose weights fit
HEAD = ("attention.", "fc.")


def build(name: str, num_classes: int, arguments: dict[str, Any]) -> nn.Module:
    """Input (n, 3, s, s) float, output (n, num_classes) logits; arguments: drop_rate (0.6), hidden ([1024, 512, 256])."""
    if unknown := sorted(set(arguments) - {"drop_rate", "hidden"}):
        raise ModelError(f"{name} takes drop_rate and hidden, but the config gives {unknown}")
    return AttentiveResNet(num_classes, **arguments)


class ChannelAttention(nn.Module):
    """Weights channels by their mean and maximum (the channel attention of CBAM, Woo et al., 2018)."""

    def __init__(self, channels: int, ratio: int = 16) -> None:
        super().__init__()
        self.shared = nn.Sequential(
            nn.Conv2d(channels, channels // ratio, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // ratio, channels, 1, bias=False),
        )

    def forward(self, maps: Tensor) -> Tensor:
        mean, most = maps.mean((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)  # (n, c, 1, 1)
        weighed: Tensor = maps * torch.sigmoid(self.shared(mean) + self.shared(most))
        return weighed


class AttentiveResNet(ResNet):  # type: ignore[misc]
    """torchvision's ResNet-50 under its own parameter names, with attention after layer4."""

    def __init__(self, num_classes: int, drop_rate: float = 0.6, hidden: Sequence[int] = (1024, 512, 256)) -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3], num_classes)
        channels = 512 * Bottleneck.expansion
        delattr(self, "fc")  # and again below, after the attention: the last parameters are the classifier's
        self.attention = ChannelAttention(channels)
        self.fc = nn.Sequential(*_deep(channels, hidden, num_classes, drop_rate))

    def _forward_impl(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.attention(self.layer4(self.layer3(self.layer2(self.layer1(x)))))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def _deep(inputs: int, hidden: Sequence[int], outputs: int, drop_rate: float) -> list[nn.Module]:
    """Each layer drops a fifth of drop_rate less: .6, .48, .36, .24 for four layers."""
    layers: list[nn.Module] = []
    for i, (n, m) in enumerate(pairwise([inputs, *hidden])):
        layers += [nn.Dropout(drop_rate * (1 - 0.2 * i)), nn.Linear(n, m), nn.BatchNorm1d(m), nn.ReLU(inplace=True)]
    width = hidden[-1] if hidden else inputs
    return [*layers, nn.Dropout(drop_rate * (1 - 0.2 * len(hidden))), nn.Linear(width, outputs)]
