"""Changes that a data worker makes to one photo, or the training device to a whole batch, from the same draws.

A worker draws per photo, from that photo's seed; the numbers travel with the batch. On a GPU this takes most of the work of
augmentation from the workers: what is left to them is to cut the photo out and to resize it, which needs the whole photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.models import torchvision_shim

torchvision_shim.ensure()

from torchvision.transforms import v2  # noqa: E402
from torchvision.transforms.v2 import functional  # noqa: E402

GREY = (0.2989, 0.587, 0.114)  # luma of ITU-R BT.601, as Pillow and torchvision weigh the channels
UNCHANGED = {"brightness_factor": 1.0, "contrast_factor": 1.0, "saturation_factor": 1.0, "hue_factor": 0.0}


class Step(Protocol):
    """One change: of a photo as it is called; or drawn for a photo, and applied to a batch."""

    numbers: int  # per photo

    def __call__(self, photo: Image.Image) -> Image.Image: ...

    def draw(self) -> Tensor:
        """One photo's numbers, from torch's generator, in the order in which a call draws them."""

    def apply(self, planes: Tensor, drawn: Tensor) -> Tensor:
        """Photos (n, 3, height, width) from 0 to 1, changed by their numbers (n, numbers), which are in the CPU's memory."""


class Colours:
    """Brightness, contrast, saturation and hue of a share of the photos, in an order drawn per photo."""

    numbers = 8

    def __init__(self, jitter: v2.ColorJitter, probability: float = 1.0) -> None:
        self.jitter, self.probability = jitter, probability
        self.transform = jitter if probability == 1 else v2.RandomApply([jitter], probability)

    def __call__(self, photo: Image.Image) -> Image.Image:
        changed: Image.Image = self.transform(photo)
        return changed

    def draw(self) -> Tensor:
        drawn: dict[str, Any] = {"fn_idx": torch.arange(4)}
        if self.probability == 1 or torch.rand(1) < self.probability:
            drawn = self.jitter.make_params([])
        factors = [drawn.get(name) for name in UNCHANGED]
        given = [none if factor is None else factor for factor, none in zip(factors, UNCHANGED.values(), strict=True)]
        return torch.cat([drawn["fn_idx"].float(), torch.tensor(given)])

    def apply(self, planes: Tensor, drawn: Tensor) -> Tensor:
        planes, order, factors = planes.clone(), drawn[:, :4], drawn[:, 4:]
        needed = factors != torch.tensor(list(UNCHANGED.values()))
        for turn in range(4):
            for kind, change in enumerate((_brightness, _contrast, _saturation, _hue)):
                chosen = ((order[:, turn] == kind) & needed[:, kind]).nonzero()[:, 0]
                factor = factors[chosen, kind].view(-1, 1, 1, 1).to(planes.device)
                planes[chosen] = change(planes[chosen], factor)
        return planes


class Erasing:
    """A rectangle of a share of the photos takes one colour (Zhong et al., "Random Erasing Data Augmentation", 2020)."""

    numbers = 4

    def __init__(self, probability: float, share: tuple[float, float], colour: Sequence[int], size: int) -> None:
        self.probability, self.size = probability, size
        self.erase = v2.RandomErasing(probability, share, (0.3, 3.3), value=list(colour))

    def __call__(self, photo: Image.Image) -> Image.Image:
        erased = self.erase(functional.pil_to_tensor(photo))
        return Image.fromarray(np.ascontiguousarray(erased.permute(1, 2, 0).numpy()))

    def draw(self) -> Tensor:
        if torch.rand(1) >= self.probability:
            return torch.zeros(4)
        drawn = self.erase.make_params([torch.empty(3, self.size, self.size)])
        return torch.zeros(4) if drawn["v"] is None else torch.tensor([float(drawn[key]) for key in "ijhw"])

    def apply(self, planes: Tensor, drawn: Tensor) -> Tensor:
        top, left, height, width = (number[:, None] for number in drawn.to(planes.device).unbind(1))
        along = torch.arange(self.size, device=planes.device)[None]
        rows, columns = (along >= top) & (along < top + height), (along >= left) & (along < left + width)
        inside = (rows[:, :, None] & columns[:, None])[:, None]
        return torch.where(inside, _channels(planes, self.erase.value) / 255, planes)


def varied(photos: Tensor, drawn: Tensor, steps: Sequence[Step]) -> Tensor:
    """Photos (n, size, size, 3) uint8, changed by the steps; drawn (n, k), on the CPU: the numbers of all steps, side by side."""
    if not steps or not len(photos):
        return photos
    planes = photos.permute(0, 3, 1, 2).float() / 255
    for step in steps:
        numbers, drawn = drawn[:, : step.numbers], drawn[:, step.numbers :]
        planes = step.apply(planes, numbers)
    return (planes * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def _channels(planes: Tensor, values: Sequence[float]) -> Tensor:
    return torch.tensor(values, device=planes.device).view(1, 3, 1, 1)


def _grey(planes: Tensor) -> Tensor:
    return (planes * _channels(planes, GREY)).sum(1, keepdim=True)


def _towards(planes: Tensor, other: Tensor | float, factor: Tensor) -> Tensor:
    return (factor * planes + (1 - factor) * other).clamp(0, 1)


def _brightness(planes: Tensor, factor: Tensor) -> Tensor:
    return _towards(planes, 0.0, factor)


def _contrast(planes: Tensor, factor: Tensor) -> Tensor:
    return _towards(planes, _grey(planes).mean((2, 3), keepdim=True), factor)


def _saturation(planes: Tensor, factor: Tensor) -> Tensor:
    return _towards(planes, _grey(planes), factor)


def _hue(planes: Tensor, turn: Tensor) -> Tensor:
    """Hue turned by a share of the circle (Smith, "Color gamut transform pairs", 1978)."""
    value, least = planes.amax(1, keepdim=True), planes.amin(1, keepdim=True)
    chroma = value - least
    red, green, blue = planes[:, :1], planes[:, 1:2], planes[:, 2:]
    by = torch.where(chroma > 0, chroma, 1)
    sixth = torch.where(
        value == red, (green - blue) / by, torch.where(value == green, 2 + (blue - red) / by, 4 + (red - green) / by)
    )
    place = (_channels(planes, (5, 3, 1)) + sixth + 6 * turn) % 6
    return value - chroma * torch.minimum(place, 4 - place).clamp(0, 1)
