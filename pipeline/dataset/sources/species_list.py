"""A region's species from a file: text, CSV or JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.dataset.sources.listing import ANY_GROUP, Listing, listing
from pipeline.errors import DataError

FORMS = (
    'JSON {"group": ["species", ...]}, {"group": {"species": observations}} or ["species", ...]; '
    "CSV with a column species (and group, observations); text with a species per line (and [group] lines)"
)
SPECIES = ("species", "scientific_name", "scientificname", "name", "taxon_name")
GROUP = ("group", "class", "iconic_taxon_name", "iconic_taxon", "supercategory")
COUNT = ("observations", "count", "observation_count", "observations_count")
Row = tuple[str, str, int | None]


def read_listing(path: Path) -> Listing:
    """The whole file, by its extension: .json, .csv, .tsv, else text. A malformed one is a DataError with the forms."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(
            f"no species list at {path}; name yours, or set region.source to have one made (check_list, ...)"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a species list: {error}") from error
    readers = {".json": _json, ".csv": _csv, ".tsv": _csv}
    found: dict[str, dict[str, int | None]] = {}
    for group, name, n in readers.get(path.suffix.lower(), _text)(text, path):
        members = found.setdefault(group, {})
        known = members.get(name)
        members[name] = n if known is None else known + (n or 0)
    return listing(found)


def read_species_list(path: Path, groups: Iterable[str]) -> dict[str, list[str]]:
    """The list of the given groups and of no group; a group that the file does not know gets an empty list."""
    data = read_listing(path).species
    groups = list(groups)
    anywhere = {ANY_GROUP: data[ANY_GROUP]} if ANY_GROUP in data else {}
    if not anywhere and not set(groups) & set(data):
        raise DataError(f"{path} has none of the groups {groups}; it has {sorted(data)} (global.included_classes)")
    return {group: data.get(group, []) for group in groups} | anywhere


def _json(text: str, path: Path) -> Iterator[Row]:
    try:
        data: Any = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path} cannot be read as a species list: {error}") from error
    for group, members in ({ANY_GROUP: data} if isinstance(data, list) else _mapping(data, path)).items():
        counts = members if isinstance(members, dict) else dict.fromkeys(_names(members, path))
        for name, n in counts.items():
            if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 0):
                raise DataError(f"{path}: {name} of {group} is counted as {n!r}; a count is a whole number")
            yield group, name, n


def _mapping(data: Any, path: Path) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise DataError(f"{path} is no species list; the forms are: {FORMS}")
    return data


def _names(members: Any, path: Path) -> list[str]:
    if not isinstance(members, list) or not all(isinstance(name, str) and name.strip() for name in members):
        raise DataError(f"{path} is no species list; the forms are: {FORMS}")
    return members


def _csv(text: str, path: Path) -> Iterator[Row]:
    head = text.partition("\n")[0]
    rows = csv.reader(text.splitlines(), delimiter=max("\t;,", key=head.count))
    header = [name.strip().lower() for name in next(rows, [])]
    species, group, count = (_column(header, names) for names in (SPECIES, GROUP, COUNT))
    if species is None:
        raise DataError(f"{path} has the columns {header}, none of them {', '.join(SPECIES)}")
    for number, row in enumerate(rows, 2):
        cells = [*(cell.strip() for cell in row), *[""] * len(header)]
        if not cells[species]:
            continue
        n = cells[count] if count is not None else ""
        if n and not n.isdecimal():
            raise DataError(f"{path}, line {number}: {n!r} is no count; a count is a whole number")
        yield (cells[group] if group is not None else "") or ANY_GROUP, cells[species], int(n) if n else None


def _column(header: list[str], names: tuple[str, ...]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _text(text: str, path: Path) -> Iterator[Row]:
    group = ANY_GROUP
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1].strip() or ANY_GROUP
        elif line and not line.startswith("#"):
            yield group, line, None
