"""Labels of a data set: the dominant species, their order, and the labels of each mode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from pipeline.console import log
from pipeline.dataset.composition import Composition, total
from pipeline.dataset.dominance import dominant_of_groups, rank_species
from pipeline.errors import DataError
from pipeline.files import read_json
from pipeline.labels import OTHER, LabelSpace
from pipeline.sections.dataset import Labels

DOMINANT = "Dominant"  # the first of the two labels of mode binary


class Labelling(NamedTuple):
    """counts: images per label, of all that is labelled; dominant: {group: [species]}; ranking: all species, the dominant
    ones first."""

    labels: LabelSpace
    counts: dict[str, int]
    dominant: dict[str, list[str]]
    ranking: list[str]


def ranked(settings: Labels, composition: Composition, threshold: float) -> tuple[list[str], int]:
    """Species in rank order for the windows of caches, and the number of dominant ones, by the settings' rule."""
    return rank_species(weigh(settings, composition), threshold, *_rule(settings))


def label(settings: Labels, composition: Composition, threshold: float) -> Labelling:
    """Rule B7: labels by group, then by name, then "Other"; where mode is dominant, a threshold of 1
    makes every species a label.

    full: every species; dominant: these and "Other"; just_other: every species that is not dominant, and nothing else;
    binary: "Dominant" and "Other".
    """
    photos = {name: n for counts in composition.values() for name, n in counts.items()}
    everything = [name for counts in composition.values() for name in counts]
    _check(everything)
    weights = weigh(settings, composition)
    dominant = dominant_of_groups(weights, threshold, *_rule(settings))
    chosen = [name for group in sorted(dominant) for name in sorted(dominant[group])]
    if settings.mode == "full" or (settings.mode == "dominant" and threshold == 1):
        names = everything
    elif settings.mode == "just_other":
        names = [name for name in everything if name not in set(chosen)]
    elif settings.mode == "binary":
        names = [DOMINANT, OTHER]
    else:
        names = [*chosen, OTHER]
    if not names or (names == [DOMINANT, OTHER] and len(chosen) == len(everything)):
        raise DataError(
            f"every species is dominant, so labels.mode {settings.mode} leaves none; lower dominant_threshold"
        )
    counts = {name: photos.get(name, 0) for name in names}
    if DOMINANT in counts and settings.mode == "binary":
        counts[DOMINANT] = sum(photos[name] for name in chosen)
    if OTHER in counts:
        counts[OTHER] = total(composition) - sum(counts.values())
    return Labelling(LabelSpace(tuple(names)), counts, dominant, rank_species(weights, threshold, *_rule(settings))[0])


def weigh(settings: Labels, composition: Composition) -> Composition:
    """The counts that decide dominance: photos, or observations in the region for each species that has photos."""
    if settings.weights is None:
        return composition
    known = read_weights(settings.weights)
    weights = {
        group: {name: known.get(group, {}).get(name, 0) for name in counts} for group, counts in composition.items()
    }
    if empty := [group for group, counts in weights.items() if not any(counts.values())]:
        raise DataError(
            f"{settings.weights} has no observations of the species of {empty}; is it of this region? "
            "matched_observations.json in the data set's folder has them by the names of the photos' folders"
        )
    return weights


def tell_unseen(counts: Mapping[str, float], path: Path) -> None:
    """Warn of species without observations in a file: a different spelling there would count as never observed."""
    if unseen := [name for name, n in counts.items() if not n]:
        log.warning("  %d of %d species have no observation in %s, e.g. %s", len(unseen), len(counts), path, unseen[0])


def read_weights(path: Path) -> Composition:
    """{group: {species: n}} from JSON, or from parquet with the columns group, species, n; n: whole numbers >= 0."""
    if path.suffix == ".parquet":
        data: Any = {}
        for group, species, n in _rows(path):
            data.setdefault(group, {})[species] = n
    else:
        data = read_json(path, "weights (labels.weights)")
    good = isinstance(data, dict) and all(
        isinstance(counts, dict) and all(type(n) is int and n >= 0 for n in counts.values()) for counts in data.values()
    )
    if not good:
        raise DataError(f'{path} must be {{"group": {{"species": n}}}} with whole numbers n >= 0 (labels.weights)')
    return dict(data)


def _rows(path: Path) -> list[tuple[Any, ...]]:
    try:
        table = pd.read_parquet(path, columns=["group", "species", "n"])
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a table of group, species, n (labels.weights): {error}") from error
    return list(zip(*(table[name].tolist() for name in ("group", "species", "n")), strict=True))


def _rule(settings: Labels) -> tuple[bool, bool]:
    return settings.ties == "minimal", settings.scope == "merged"


def _check(names: list[str]) -> None:
    if twice := sorted(name for name, n in Counter(names).items() if n > 1):
        raise DataError(f"{twice} stand in more than one group; labels are joined by name, so keep one folder of each")
    if OTHER in names:
        raise DataError(f"a species is called {OTHER!r}, the label of all that is not dominant; rename its folder")
