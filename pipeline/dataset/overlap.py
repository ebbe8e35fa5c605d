"""Overlap of the photos' species and the region's list: counts per group and in total."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from pipeline.dataset.names import short
from pipeline.dataset.sources.listing import ANY_GROUP


class Overlap(NamedTuple):
    """Numbers of species: only with photos, in both, only on the region's list."""

    only_photos: int
    both: int
    only_region: int

    @property
    def told(self) -> list[str]:
        """Lines for a text box: totals, shared and unshared species."""
        photos, region = self.only_photos + self.both, self.only_region + self.both
        return [
            f"with photos    {photos:>7,}",
            f"on the list    {region:>7,}",
            f"in common      {self.both:>7,}  ({self.both / max(photos, 1):.1%} of photos, "
            f"{self.both / max(region, 1):.1%} of list)",
            f"photos only    {self.only_photos:>7,}",
            f"list only      {self.only_region:>7,}",
        ]


def overlaps(
    matched: Mapping[str, Collection[str]],
    only_photos: Mapping[str, Collection[str]],
    only_region: Mapping[str, Collection[str]],
) -> dict[str, Overlap]:
    """Sizes per group, of the match's three lists."""
    groups = sorted({*matched, *only_photos, *only_region})
    lists = (only_photos, matched, only_region)
    return {group: Overlap(*(len(names.get(group, ())) for names in lists)) for group in groups}


def group_title(group: str) -> str:
    """A group's title, also for names of a list without groups."""
    return "(list without groups)" if group == ANY_GROUP else short(group)


def together(parts: Mapping[str, Overlap]) -> Overlap:
    """The sum over groups: a name counts once in each group that has it."""
    return Overlap(*(sum(sizes) for sizes in zip(*parts.values(), strict=True))) if parts else Overlap(0, 0, 0)
