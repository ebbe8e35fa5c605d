"""Dominant species by cumulative share: rule B6, per group, inclusive ties, exact at the threshold."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import ceil

from pipeline.dataset.composition import Composition
from pipeline.errors import DataError


def dominant_species(counts: Mapping[str, int], threshold: float) -> list[str]:
    """The smallest head of the ranked species that reaches `threshold` of the images, with all that tie with its last.

    counts: images per species of one group; ties keep the mapping's order. The comparison is exact: the threshold is
    taken as the decimal number that was written. A threshold below the first species' share is an error.
    """
    share = Fraction(str(threshold))
    if not 0 <= share <= 1:
        raise DataError(f"dominant_threshold {threshold} must lie in [0, 1]")
    ranked = sorted(((name, n) for name, n in counts.items() if n > 0), key=lambda item: -item[1])
    total = sum(n for _, n in ranked)
    if not total:
        return []
    first, most = ranked[0]
    if most > share * total:
        minimum = ceil(Fraction(most * 10_000, total)) / 10_000
        raise DataError(
            f"dominant_threshold {threshold} is too low: {first} alone holds {most / total:.4f} of the images. "
            f"Minimum: {minimum:.4f}"
        )
    reached = 0
    for _, n in ranked:
        reached += n
        if reached >= share * total:
            return [name for name, count in ranked if count >= n]
    raise AssertionError("the last species always reaches a threshold of at most 1")


def dominant_of_groups(composition: Composition, threshold: float) -> dict[str, list[str]]:
    """Rule B6 for each group by itself."""
    return {group: dominant_species(counts, threshold) for group, counts in composition.items()}


def rank_species(composition: Composition, threshold: float) -> tuple[list[str], int]:
    """All species in rank order for the windows of caches, and the number n of dominant ones, which come first.

    Within the dominant ones, and within the rest, by images (most first), then group, then name. With one group this is
    the users' rank file; with several, window 0 is exactly the dominant species of all groups.
    """
    dominant = {(group, name) for group, names in dominant_of_groups(composition, threshold).items() for name in names}
    rows = [(group, name, n) for group, counts in composition.items() for name, n in counts.items() if n > 0]
    rows.sort(key=lambda row: ((row[0], row[1]) not in dominant, -row[2], row[0], row[1]))
    return [name for _, name, _ in rows], len(dominant)
