"""The network with its scaling inside: uint8 photos in, logits out. It is trained, exported and measured in this form."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.edge.recipe import Recipe


class Deployable(nn.Module):
    """Input uint8 (n, size, size, 3) RGB, output float logits (n, labels)."""

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on CPU
        mean, std = torch.tensor(recipe.mean), torch.tensor(recipe.std)
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", (-mean / std).view(1, 3, 1, 1), persistent=False)
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, photos: Tensor) -> Tensor:
        planes = photos.permute(0, 3, 1, 2).float()  # (n, 3, s, s), channels last in memory
        answer: Tensor = self.network(planes * self.scale + self.shift)
        return answer if self.training or isinstance(answer, Tensor) else answer[0]  # without auxiliary classifiers
