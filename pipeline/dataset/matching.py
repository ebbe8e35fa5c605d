"""Match the species of the photos with the region's list, by name and per group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.dataset.composition import Composition
from pipeline.dataset.names import is_genus, nearest, normalise
from pipeline.dataset.sources.listing import ANY_GROUP
from pipeline.errors import DataError
from pipeline.files import nfc

Names = Mapping[str, Iterable[str]]


class Joined(NamedTuple):
    """A folder and a listed name of the same species in different spellings; how: "normalised" or "synonym"."""

    group: str
    folder: str
    listed: str
    how: str


@dataclass(frozen=True)
class Match:
    """matched holds the folders' spelling; only_photos and only_region what has no partner on the other side (names of
    a list without groups under ANY_GROUP); joined: what of matched is spelt differently; offered: what would be joined
    if normalised names counted; ambiguous: {group: {listed name: [folders]}}, a listed name that several folders fit,
    which is not joined."""

    matched: dict[str, list[str]]
    only_photos: dict[str, list[str]]
    only_region: dict[str, list[str]]
    joined: list[Joined]
    offered: list[Joined]
    ambiguous: dict[str, dict[str, list[str]]]

    @property
    def total(self) -> int:
        return sum(len(names) for names in self.matched.values())


def match(photos: Names, region: Names, normalised: bool = False, synonyms: Mapping[str, str] | None = None) -> Match:
    """Join by name within each group: exactly (but for Unicode composition), then `normalised` where that is wanted, then
    through `synonyms` {name: accepted name}, both normalised. Nothing in common is an error.

    Several listed names, such as subspecies, may lead to one folder; a listed name never leads to several folders.
    """
    table = synonyms or {}
    steps: list[tuple[str, bool, Callable[[str], str]]] = [("normalised", normalised, normalise)]
    if table:
        steps.append(("synonym", True, lambda name: table.get(normalise(name), normalise(name))))
    anywhere = {nfc(name): name for name in region.get(ANY_GROUP, [])}
    somewhere: set[str] = set()
    result = Match({}, {}, {}, [], [], {})
    for group in sorted(photos):
        have = {nfc(name): name for name in photos[group]}
        own = {nfc(name): name for name in region.get(group, [])}
        want = anywhere | own
        matched = have.keys() & want.keys()
        taken, left = set(matched), want.keys() - matched
        for how, take, form in steps:
            pairs, unclear = _pairs(have, left, form)
            joined = result.joined if take else result.offered
            joined.extend(Joined(group, have[folder], want[name], how) for name, folder in sorted(pairs.items()))
            for name, folders in unclear.items():
                result.ambiguous.setdefault(group, {})[want[name]] = sorted(have[folder] for folder in folders)
            left = left - pairs.keys()
            if take:
                matched, taken = matched | set(pairs.values()), taken | pairs.keys()
        somewhere |= taken
        result.matched[group] = sorted(have[name] for name in matched)
        result.only_photos[group] = sorted(have[name] for name in have.keys() - matched)
        result.only_region[group] = sorted(own[name] for name in own.keys() - taken)
    if anywhere:
        result.only_region[ANY_GROUP] = sorted(anywhere[name] for name in anywhere.keys() - somewhere)
    if not result.total:
        raise DataError(
            f"none of the {sum(map(len, result.only_region.values()))} species of the list is among the "
            f"{sum(map(len, result.only_photos.values()))} species folders; e.g. the list has "
            f"{_first(result.only_region)}, the photos have {_first(result.only_photos)}"
        )
    return result


def _pairs(
    have: Iterable[str], left: Iterable[str], form: Callable[[str], str]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Listed name -> folder where both normalise to the same form, and the listed names that fit several folders."""
    folders: dict[str, list[str]] = defaultdict(list)
    for name in sorted(have):
        folders[form(name)].append(name)
    fits = {name: folders[key] for name in sorted(left) if (key := form(name)) in folders}
    pairs = {name: found[0] for name, found in fits.items() if len(found) == 1}
    return pairs, {name: found for name, found in fits.items() if len(found) > 1}


def _first(names: Mapping[str, list[str]]) -> str:
    return next((repr(members[0]) for members in names.values() if members), "nothing")


def observations(result: Match, counts: Composition) -> Composition:
    """Observations of each matched species, by its folder's name: the sum over the listed names that match it.

    counts: of the list, {group: {listed name: n}}; where the list does not count, nothing comes back.
    """
    lead = {(pair.group, nfc(pair.listed)): pair.folder for pair in result.joined}
    found: Composition = {}
    for group, folders in result.matched.items() if counts else ():
        found[group] = dict.fromkeys(folders, 0)
        exact = {nfc(folder): folder for folder in folders}
        for names in (counts.get(group, {}), counts.get(ANY_GROUP, {})):
            for name, n in names.items():
                if folder := exact.get(nfc(name)) or lead.get((group, nfc(name))):
                    found[group][folder] += n
    return found


def report(result: Match, photos: Names, region: Names, everything: Names | None = None) -> dict[str, Any]:
    """What became of every name, for people: nothing in it but `matched` and `joined` has been taken. everything: the
    region's list with the groups that are not included, too."""
    listed = {group: [*region.get(group, []), *region.get(ANY_GROUP, [])] for group in photos}
    folders = {group: list(names) for group, names in photos.items()}
    every = {ANY_GROUP: [name for names in folders.values() for name in names]} | folders
    return {
        "matched": {group: len(names) for group, names in result.matched.items()},
        "joined": [pair._asdict() for pair in result.joined],
        "would_join_if_normalised": [pair._asdict() for pair in result.offered],
        "ambiguous": result.ambiguous,
        "only_in_photos": result.only_photos,
        "only_in_region": result.only_region,
        "nearest_in_region": {group: nearest(names, listed[group]) for group, names in result.only_photos.items()},
        "nearest_in_photos": {group: nearest(names, every[group]) for group, names in result.only_region.items()},
        "genus_only": {"photos": _genera(photos), "region": _genera(region)},
        "in_two_groups": _in_two_groups(photos, everything or region),
    }


def _genera(names: Names) -> dict[str, list[str]]:
    found = {group: sorted(name for name in members if is_genus(name)) for group, members in sorted(names.items())}
    return {group: members for group, members in found.items() if members}


def _in_two_groups(photos: Names, region: Names) -> dict[str, dict[str, list[str]]]:
    """Names that stand in more than one group, on one side or across the two: {name: {side: [groups]}}."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: {"photos": set(), "region": set()})
    for side, names in (("photos", photos), ("region", region)):
        for group, members in names.items():
            for name in members if group != ANY_GROUP else ():
                found[normalise(name)][side].add(group)
    return {
        name: {side: sorted(groups) for side, groups in sides.items()}
        for name, sides in sorted(found.items())
        if len(set().union(*sides.values())) > 1
    }
