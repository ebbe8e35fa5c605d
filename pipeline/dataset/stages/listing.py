"""The photos that the stages work on: all of the source, and those of the matched species."""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter
from pathlib import Path

from pipeline.config import Config
from pipeline.dataset.archives import is_archive, unpack
from pipeline.dataset.composition import Composition, compose
from pipeline.dataset.formats import cub200, flat, folder, inat2017, inat_json, nabirds, table
from pipeline.dataset.formats.base import Listing, Photo, Want
from pipeline.dataset.storing import stored_path
from pipeline.errors import DataError
from pipeline.files import read_json, safe_name

FORMATS = {
    "folder": folder,
    "flat": flat,
    "inat2017": inat2017,
    "inat_json": inat_json,
    "cub200": cub200,
    "nabirds": nabirds,
    "table": table,
}


def root(config: Config) -> Path:
    """The folder of the source's photos; an archive is unpacked beside itself first."""
    path = config.paths.src_dataset
    return unpack(path) if is_archive(path) else path


def source(config: Config) -> Listing:
    """The listing of src_dataset; read once per run."""
    return _read(*_asked(config))


def composition(config: Config) -> Composition:
    """Photos per species of src_dataset; counted once per run."""
    return _count(*_asked(config))


def _asked(config: Config) -> tuple[str, Path, Want]:
    dataset = config.dataset
    return (
        dataset.format,
        root(config),
        Want(tuple(config.global_.included_classes), dataset.kingdom, dataset.categories),
    )


def read_anew() -> None:
    """Clear the caches so that a new run reads the source again."""
    for read in (_read, _count, _choose):
        read.cache_clear()


@lru_cache(maxsize=1)
def _read(form: str, path: Path, want: Want) -> Listing:
    listing: Listing = FORMATS[form].read(path, want)
    if not listing.photos:
        raise DataError(f"no photos below {path}; expected {FORMATS[form].FORM} (dataset.format: {form})")
    return listing


@lru_cache(maxsize=1)
def _count(form: str, path: Path, want: Want) -> Composition:
    found = _read(form, path, want)
    return compose(map(itemgetter(1, 2), found.photos), found.species)


@lru_cache(maxsize=1)
def _choose(form: str, path: Path, want: Want, species: frozenset[tuple[str, str]]) -> list[Photo]:
    return [photo for photo in _read(form, path, want).photos if photo[1:3] in species]


def matched(config: Config) -> list[Photo]:
    """Photos of the matched species in src_dataset; other files in dst_dataset are not part of the data set."""
    path = config.dataset_dir / matched_file(config)
    species = read_json(path, "matched species list (stage match)")
    return _choose(*_asked(config), frozenset((group, name) for group, names in species.items() for name in names))


def placed(config: Config) -> list[Photo]:
    """The same photos with their paths in dst_dataset."""
    photos = matched(config)
    return [photo._replace(path=stored_path(photo.path)) for photo in photos] if config.dataset.store.size else photos


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
