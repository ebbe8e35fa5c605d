"""What a photo goes through before it is learnt from: a few named strengths, all random draws from torch's generator."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from pipeline.edge.recipe import Recipe, preprocess
from pipeline.models import torchvision_whole

torchvision_whole.ensure()

from torchvision.transforms import v2  # noqa: E402

Augment = Callable[[Image.Image], Image.Image]


def augmentation(strength: str, recipe: Recipe) -> Augment:
    """From an upright RGB photo to a varied one of recipe.size px; "none" is what evaluation sees.

    Insects are photographed from any side but mostly with the ground below, so photos are mirrored and never turned over.
    Colour changes are mild: colour tells species apart.
    """
    if strength == "none":
        return lambda photo: Image.fromarray(preprocess(photo, recipe))
    smallest = {"light": 0.6, "medium": 0.3, "strong": 0.2}[strength]
    steps: list[Augment] = [v2.RandomResizedCrop(recipe.size, scale=(smallest, 1.0)), v2.RandomHorizontalFlip()]
    if strength in ("medium", "strong"):
        steps.append(v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.03))
    if strength == "strong":
        steps.append(v2.RandomApply([v2.TrivialAugmentWide()], p=0.5))
    varied: Augment = v2.Compose(steps)
    return varied
