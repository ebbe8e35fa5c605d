"""Augmentation: a few named recipes, with all random draws from torch's generator."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PIL import Image

from pipeline.edge.recipe import Recipe, preprocess
from pipeline.models import torchvision_shim
from pipeline.training.batched import Colours, Erasing, Step

torchvision_shim.ensure()

from torchvision.transforms import v2  # noqa: E402

Augment = Callable[[Image.Image], Image.Image]


def augmentation(strength: str, recipe: Recipe, erasing: float = 0.0) -> Augment:
    """Transform of an upright RGB photo to an augmented one of recipe.size px; "none" is the view of the evaluation.

    Insects are photographed from any side but mostly with the ground below, so photos are mirrored and never turned over.
    light, medium, strong: colour changes are mild, as colour tells species apart. inception: Szegedy et al., "Going Deeper
    with Convolutions", 2015, with the colour distortion of TensorFlow's models: all four changes in an order drawn per
    photo. inat: mild crops, turns up to 12 degrees, blur and erasing. aggressive: half of the photos at a slant, turns up
    to 10 degrees. randaugment, trivialaugment: Cubuk et al., 2020; Mueller and Hutter, 2021. erasing: probability that a
    rectangle takes the mean colour (Zhong et al., 2020).
    """
    return _composed(_all(strength, recipe, erasing))


def separated(strength: str, recipe: Recipe, erasing: float = 0.0) -> tuple[Augment, list[Step]]:
    """The same in two parts: for data workers, and for whole batches on the training device.

    Without turns, blur or an automatic recipe after the colours, both parts together draw what augmentation() draws.
    """
    steps = _all(strength, recipe, erasing)
    batched: list[Step] = [step for step in steps if isinstance(step, Colours | Erasing)]
    return _composed([step for step in steps if not isinstance(step, Colours | Erasing)]), batched


def _all(strength: str, recipe: Recipe, erasing: float) -> list[Augment]:
    if strength == "none":
        return [partial(_plain, recipe)]
    return [*_steps(strength, recipe), *([_erased(erasing, (0.02, 0.33), recipe)] if erasing else [])]


def _composed(steps: list[Augment]) -> Augment:
    whole: Augment = v2.Compose(steps)
    return whole


def _steps(strength: str, recipe: Recipe) -> list[Augment]:
    if strength == "inception":
        crop = v2.RandomResizedCrop(recipe.size, scale=(0.05, 1.0), ratio=(0.75, 1.33))
        return [
            crop,
            v2.RandomHorizontalFlip(),
            Colours(v2.ColorJitter(32 / 255, contrast=0.5, saturation=0.5, hue=0.2)),
        ]
    if strength == "inat":
        crop = v2.RandomResizedCrop(recipe.size, scale=(0.7, 1.0), ratio=(0.9, 1.1))
        colours = Colours(v2.ColorJitter(0.25, 0.25, 0.25, 0.08), 0.7)
        blur = v2.RandomApply([v2.GaussianBlur(3, (0.1, 1.5))], p=0.3)
        erase = _erased(0.25, (0.02, 0.15), recipe)
        return [crop, v2.RandomHorizontalFlip(), colours, v2.RandomRotation(12), blur, erase]
    if strength == "aggressive":
        crop = v2.RandomResizedCrop(recipe.size)
        return [crop, v2.RandomHorizontalFlip(), v2.RandomPerspective(0.25), v2.RandomRotation(10)]
    smallest = {"light": 0.6, "strong": 0.2}.get(strength, 0.3)
    steps: list[Augment] = [v2.RandomResizedCrop(recipe.size, scale=(smallest, 1.0)), v2.RandomHorizontalFlip()]
    if strength in ("medium", "strong"):
        steps.append(Colours(v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.03)))
    if strength == "strong":
        steps.append(v2.RandomApply([v2.TrivialAugmentWide()], p=0.5))
    whole: dict[str, Augment] = {"randaugment": v2.RandAugment(), "trivialaugment": v2.TrivialAugmentWide()}
    return [*steps, *([whole[strength]] if strength in whole else [])]


def _erased(probability: float, share: tuple[float, float], recipe: Recipe) -> Erasing:
    """Random erasing with this probability and area, in the colour that the scaling maps to zero."""
    return Erasing(probability, share, [round(255 * channel) for channel in recipe.mean], recipe.size)


# no closure: it is pickled for data workers where processes are not forked
def _plain(recipe: Recipe, photo: Image.Image) -> Image.Image:
    return Image.fromarray(preprocess(photo, recipe))
