"""iNaturalist's 13 iconic groups from a taxonomic path."""

from __future__ import annotations

CLASSES = ("Actinopterygii", "Amphibia", "Arachnida", "Aves", "Insecta", "Mammalia", "Reptilia")
ENGLISH = {  # super-categories of iNaturalist 2021
    "Amphibians": "Amphibia",
    "Animals": "Animalia",
    "Arachnids": "Arachnida",
    "Birds": "Aves",
    "Insects": "Insecta",
    "Mammals": "Mammalia",
    "Mollusks": "Mollusca",
    "Plants": "Plantae",
    "Ray-finned Fishes": "Actinopterygii",
    "Reptiles": "Reptilia",
}


def iconic_group(kingdom: str, phylum: str, class_: str) -> str:
    """The class where it has a group of its own, the phylum Mollusca, else the kingdom (Animalia: all other animals)."""
    if class_ in CLASSES:
        return class_
    return "Mollusca" if phylum == "Mollusca" else kingdom
