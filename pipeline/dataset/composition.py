"""Images per species: {group: {species: n}}."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

Composition = dict[str, dict[str, int]]


def compose(pairs: Iterable[tuple[str, str]], species: Mapping[str, Iterable[str]] | None = None) -> Composition:
    """Count photos, each given as its group and species, in sorted order; listed species without photos count 0."""
    counts = Counter(pairs)
    names = set(counts) | {(group, name) for group, members in (species or {}).items() for name in members}
    result: Composition = {}
    for group, name in sorted(names):
        result.setdefault(group, {})[name] = counts[group, name]
    return result


def total(composition: Composition) -> int:
    """All images."""
    return sum(sum(members.values()) for members in composition.values())
