"""A trained model under explanation: its answer to a photo, and its maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.edge.recipe import decode, preprocess
from pipeline.edge.rule import probabilities
from pipeline.errors import ConfigError, ModelError, did_you_mean
from pipeline.evaluation.predict import stage_names
from pipeline.explaining.figure import Explanation
from pipeline.explaining.methods import Map, relevance
from pipeline.explaining.network import readable
from pipeline.labels import translate
from pipeline.models.checkpoint import CARD, ModelCard, finished_model
from pipeline.models.deployable import Deployable


@dataclass(frozen=True)
class Subject:
    """card: what model.json says; model: its network as readable() gives it."""

    card: ModelCard
    model: Deployable

    def see(self, path: Path) -> NDArray[np.uint8]:
        """(size, size, 3) of a photo, as on the device; UnreadableImage."""
        return preprocess(decode(path, self.card.recipe.decode_side), self.card.recipe)

    def probabilities(self, photos: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(n, size, size, 3) -> (n, labels)."""
        with torch.inference_mode():
            logits = self.model(torch.tensor(photos)).numpy()
        return probabilities(logits)

    def label_of(self, species: str) -> int:
        """Index of a species; of "Other" where this model has no label of its own for it; else -1."""
        return int(translate([species], self.card.labels.names)[0])


def load_subjects(config: Config, names: Sequence[str]) -> list[Subject]:
    """The experiment's models of these names, those of its cascade if there is no name; an unknown one is an error."""
    subjects = []
    for name in names or stage_names(config):
        folder = config.models / name
        there = sorted(path.parent.name for path in config.models.glob(f"*/{CARD}"))
        if name not in there and (hint := did_you_mean(name, there, "")):
            raise ModelError(f"no model {name!r} in {config.models}; {hint}")
        network, card = finished_model(folder)
        subjects.append(Subject(card, readable(network, card.recipe)))
    return subjects


def check_target(subjects: Sequence[Subject], species: str) -> None:
    """A species that none of the models knows is a ConfigError that names the nearest."""
    known = sorted({name for subject in subjects for name in subject.card.labels.names})
    if species not in known:
        names = " and ".join(subject.card.name for subject in subjects)
        raise ConfigError(f"{names} know no species {species!r}; {did_you_mean(species, known, 'see labels.csv')}")


def ask(
    subject: Subject, path: Path, methods: Sequence[str], target: str | None, truth: str | None, seed: int
) -> Explanation:
    """Answer and maps for one photo, for the species `target` or for what the model answers."""
    pixels = subject.see(path)
    scores = subject.probabilities(pixels[None])[0]
    answered = int(scores.argmax())
    wanted = answered if target is None else subject.label_of(target)
    if wanted < 0:
        raise ConfigError(f"{subject.card.name} does not know {target!r}; leave it out of --models")
    names = subject.card.labels.names
    right = None if truth is None else subject.label_of(truth) == answered
    maps = {method: _map_or_reason(subject, pixels, wanted, method, seed) for method in methods}
    return Explanation(
        subject.card.name,
        pixels,
        names[answered],
        float(scores[answered]),
        names[wanted],
        float(scores[wanted]),
        right,
        maps,
    )


def _map_or_reason(subject: Subject, pixels: NDArray[np.uint8], target: int, method: str, seed: int) -> Map | str:
    try:
        return relevance(subject.model, pixels, target, method, seed)
    except ModelError as error:
        return str(error)
