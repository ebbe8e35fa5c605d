"""Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019) within a batch, by torchvision."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.models import torchvision_shim
from pipeline.sections.training import Mix

torchvision_shim.ensure()

from torchvision.transforms import v2  # noqa: E402


def mixed(photos: Tensor, labels: Tensor, count: int, settings: Mix, epoch: int) -> tuple[Tensor, Tensor]:
    """A batch (n, s, s, 3) uint8 with labels (n,), mixed or not; mixed labels are shares (n, count), mixed photos floats.

    One draw decides for the whole batch, from torch's generator.
    """
    if not settings.mixup + settings.cutmix:
        return photos, labels
    factor = max(settings.least, settings.probability - settings.decline * epoch)
    draw = float(torch.rand(()))
    if draw < settings.mixup * factor:
        transform = v2.MixUp(alpha=settings.mixup_alpha, num_classes=count)
    elif draw < (settings.mixup + settings.cutmix) * factor:
        transform = v2.CutMix(alpha=settings.cutmix_alpha, num_classes=count)
    else:
        return photos, labels
    planes, shares = transform(photos.permute(0, 3, 1, 2).float(), labels)
    return planes.permute(0, 2, 3, 1), shares
