"""Common type of all sources: species per group, with observation counts where the source has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pipeline.dataset.composition import Composition

ANY_GROUP = "any group"  # group of names without one; they are matched in every group
GROUPS = {  # iNaturalist's iconic groups and the ids of their taxa; Animalia holds the animals of no other group
    "Actinopterygii": 47178,
    "Amphibia": 20978,
    "Animalia": 1,
    "Arachnida": 47119,
    "Aves": 3,
    "Chromista": 48222,
    "Fungi": 47170,
    "Insecta": 47158,
    "Mammalia": 40151,
    "Mollusca": 47115,
    "Plantae": 47126,
    "Protozoa": 47686,
    "Reptilia": 26036,
}


class Listing(NamedTuple):
    """species: {group: [species]}, all sorted; observations: the same names with their counts, {} where unknown."""

    species: dict[str, list[str]]
    observations: Composition


def listing(names: Mapping[str, Mapping[str, int | None]]) -> Listing:
    """Sorted listing of {group: {species: observations or None}}; it counts only where every species is counted."""
    tidy = {group: dict(sorted(members.items())) for group, members in sorted(names.items()) if members}
    counts = {group: {name: n for name, n in members.items() if n is not None} for group, members in tidy.items()}
    counted = all(len(counts[group]) == len(members) for group, members in tidy.items())
    return Listing({group: list(members) for group, members in tidy.items()}, counts if counted else {})
