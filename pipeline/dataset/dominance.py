"""Dominant species by cumulative share: rule B6 and its variants, exact at the threshold.

The rule, and the default: the smallest head of a group's ranked species that reaches the threshold, with all that tie with
its last. Variants: the smallest head alone (minimal), all groups ranked as one (merged).
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import ceil

from pipeline.dataset.composition import Composition
from pipeline.errors import DataError


def dominant_species(counts: Mapping[str, int], threshold: float, minimal: bool = False) -> list[str]:
    """The shortest head of the ranked species that holds `threshold` of the images, with all that tie with its last.

    counts: images per species of one group; ties keep the mapping's order. minimal: without those that tie. The comparison
    is exact: the threshold is taken as the decimal number that was written. A threshold below the first species' share
    is an error.
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
            f"Take all groups together (labels.scope: merged), another group, or a higher threshold (1: no caches). "
            f"Minimum: {minimum:.4f}"
        )
    reached = 0
    for k, (_, n) in enumerate(ranked, 1):
        reached += n
        if reached >= share * total:
            return [name for i, (name, count) in enumerate(ranked) if i < k or (count >= n and not minimal)]
    raise AssertionError("the last species always reaches a threshold of at most 1")


def dominant_of_groups(
    composition: Composition, threshold: float, minimal: bool = False, merged: bool = False
) -> dict[str, list[str]]:
    """Rule B6 for each group by itself, or, merged, for all species as one group; ties go by group, then name."""
    if not merged:
        return {group: dominant_species(counts, threshold, minimal) for group, counts in composition.items()}
    everything = {name: n for group in sorted(composition) for name, n in sorted(composition[group].items())}
    chosen = dominant_species(everything, threshold, minimal)
    return {group: [name for name in chosen if name in counts] for group, counts in composition.items()}


def rank_species(
    composition: Composition, threshold: float, minimal: bool = False, merged: bool = False
) -> tuple[list[str], int]:
    """All species in rank order for the windows of caches, and the number n of dominant ones, which come first.

    Within the dominant ones, and within the rest, by images (most first), then group, then name. With one group this is
    the users' rank file; with several, window 0 is exactly the dominant species of all groups.
    """
    by_group = dominant_of_groups(composition, threshold, minimal, merged)
    dominant = {(group, name) for group, names in by_group.items() for name in names}
    rows = [(group, name, n) for group, counts in composition.items() for name, n in counts.items()]
    rows.sort(key=lambda row: ((row[0], row[1]) not in dominant, -row[2], row[0], row[1]))
    return [name for _, name, _ in rows], len(dominant)
