"""A region's species from a JSON file {group: [species, ...]}."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import DataError
from pipeline.files import read_json


def read_species_list(path: Path, groups: Iterable[str]) -> dict[str, list[str]]:
    """The list of the given groups; a group that the file does not know gets an empty list."""
    data = read_json(path, "species list (paths.web_crawl_output_json)")
    well_formed = isinstance(data, dict) and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in data.values()
    )
    if not well_formed:
        raise DataError(f'{path} must be {{"group": ["species", ...]}}')
    groups = list(groups)
    if not set(groups) & set(data):
        raise DataError(f"{path} has none of the groups {groups}; it has {sorted(data)} (global.included_classes)")
    return {group: sorted(set(data.get(group, []))) for group in groups}
