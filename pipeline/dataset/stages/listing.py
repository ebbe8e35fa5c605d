"""The photos that the stages speak of: all of the source, and those of the matched species."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from pipeline.config import Config
from pipeline.dataset.formats.folder import Photo, folders, scan
from pipeline.files import read_json, safe_name


class Listing(NamedTuple):
    """What the source holds. species: {group: [species]}, also those without photos; others: files that are no photos."""

    species: dict[str, list[str]]
    photos: list[Photo]
    others: list[str]


def source(config: Config) -> Listing:
    """All of src_dataset; read once per run."""
    return _read(config.paths.src_dataset, tuple(config.global_.included_classes))


def read_anew() -> None:
    """Forget what was read: a new run looks again."""
    _read.cache_clear()


@lru_cache(maxsize=1)
def _read(root: Path, groups: tuple[str, ...]) -> Listing:
    species = folders(root, groups)
    return Listing(species, *scan(root, species))


def matched(config: Config) -> list[Photo]:
    """Photos of the matched species as src_dataset has them; what else lies in dst_dataset is no part of the data set."""
    path = config.dataset_dir / matched_file(config)
    species = {group: set(names) for group, names in read_json(path, "matched species list (stage match)").items()}
    return [photo for photo in source(config).photos if photo.species in species.get(photo.group, ())]


def analysis_files(config: Config) -> list[str]:
    """The source's species list and its composition."""
    name = _name(config.paths.src_dataset)
    return [f"{name}_species.json", f"{name}_composition.json"]


def matched_file(config: Config) -> str:
    """The species list that stage match writes."""
    return f"matched_species_{_name(config.paths.src_dataset)}_{_name(config.paths.dst_dataset)}.json"


def _name(path: Path) -> str:
    name = safe_name(path.resolve().name)
    return "photos" if name == "species" else name  # species_composition.json is a file of the label stage
