"""Which species of the photos live in the region: the two lists joined by name, per group."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.errors import DataError


@dataclass(frozen=True)
class Match:
    """matched holds the folders' spelling; the other two hold what has no partner on the other side."""

    matched: dict[str, list[str]]
    only_photos: dict[str, list[str]]
    only_region: dict[str, list[str]]

    @property
    def total(self) -> int:
        return sum(len(names) for names in self.matched.values())


def match(photos: Mapping[str, Iterable[str]], region: Mapping[str, Iterable[str]]) -> Match:
    """Join by name within each group, exact but for Unicode composition (NFC). Nothing in common is an error."""
    matched, only_photos, only_region = {}, {}, {}
    for group in sorted(photos):
        have = {unicodedata.normalize("NFC", name): name for name in photos[group]}
        want = {unicodedata.normalize("NFC", name): name for name in region.get(group, [])}
        matched[group] = sorted(have[name] for name in have.keys() & want.keys())
        only_photos[group] = sorted(have[name] for name in have.keys() - want.keys())
        only_region[group] = sorted(want[name] for name in want.keys() - have.keys())
    result = Match(matched, only_photos, only_region)
    if not result.total:
        raise DataError(
            f"none of the {sum(map(len, only_region.values()))} species of the list is among the "
            f"{sum(map(len, only_photos.values()))} species folders; e.g. the list has {_first(only_region)}, "
            f"the photos have {_first(only_photos)}"
        )
    return result


def _first(names: Mapping[str, list[str]]) -> str:
    return next((repr(members[0]) for members in names.values() if members), "nothing")
