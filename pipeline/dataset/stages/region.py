"""Stage region: the species of the region, and how often each was observed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyarrow.parquet import ParquetFile

from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.sources.listing import GROUPS, Listing
from pipeline.dataset.sources.pages import Get
from pipeline.dataset.sources.species_list import read_listing
from pipeline.dataset.stages.stage import Stage
from pipeline.errors import ConfigError, DataError
from pipeline.files import digest, read_json, sha256, write_json
from pipeline.sections.region import WebCrawl

SPECIES, OBSERVATIONS, PHOTOS = "region.json", "region_observations.json", "region_photos.parquet"


def region_file(config: Config) -> Path | None:
    """Where the region's list is; none where every species of the photos is to be taken."""
    return config.dataset_dir / SPECIES if config.region.source else config.paths.web_crawl_output_json


def listed(config: Config) -> Listing | None:
    """The region's list, whole, with the observations of those that it counts; none where there is no list."""
    if (path := region_file(config)) is None:
        return None
    found = read_listing(path)
    if config.region.source is None:
        return found
    return found._replace(observations=read_json(config.dataset_dir / OBSERVATIONS, "region's observations"))


def _inputs(config: Config) -> Mapping[str, Any]:
    """Server responses are not part of the fingerprint; each source is queried once."""
    region = config.region
    files = {str(path): _fingerprint(path) for path in (region.file, region.polygon) if path}
    asked: dict[str, Any] = {
        "region": region.model_dump(mode="json", exclude={"contact", "photos", "names", "synonyms", "memory_gb"}),
        "files": files,
        "groups": config.global_.included_classes,
    }
    if region.source == "check_list":
        asked["crawl"] = list(_asked(config.web_crawl).values())
    if region.source == "open_data":
        asked["photos"] = [region.photos.per_species, config.seed, "with dates"]
    return asked


def _outputs(config: Config) -> list[str]:
    return [SPECIES, OBSERVATIONS, *([PHOTOS] if config.region.source == "open_data" else [])]


def _intact(config: Config) -> bool:
    """Whether the crawled list that the user named still says the same."""
    listed = config.paths.web_crawl_output_json
    if config.region.source != "check_list" or listed is None:
        return True
    return listed.is_file() and read_listing(listed).species == read_json(config.dataset_dir / SPECIES, "species list")


def _run(config: Config) -> str:
    try:
        found, told = _SOURCES[config.region.source or ""](config)
    except ModuleNotFoundError as error:
        raise DataError(
            f"source {config.region.source} needs the package {error.name}: pip install 'ommatidia[region]'"
        ) from error
    if not found.species:
        raise DataError(f"source {config.region.source} gives no species; see the keys of region in the configuration")
    write_json(config.dataset_dir / SPECIES, found.species)
    write_json(config.dataset_dir / OBSERVATIONS, found.observations)
    n = sum(map(len, found.species.values()))
    counted = sum(sum(members.values()) for members in found.observations.values())
    return f"{n} species in {len(found.species)} groups{f', {counted} observations' if counted else ''}{told}"


def _check_list(config: Config) -> tuple[Listing, str]:
    from pipeline.dataset.sources.check_list import crawl

    listed, settings = config.paths.web_crawl_output_json, config.web_crawl
    if not settings.base_url:
        raise ConfigError(
            "web_crawl.base_url is empty; name your region's check list there, "
            "as in https://www.inaturalist.org/check_lists/32961-Haute-Garonne-Check-List?page="
        )
    if listed and listed.is_file() and not config.global_.overwrite and not _outdated(listed, settings):
        return read_listing(listed), f" as {listed} has them; global.overwrite=true crawls again"
    folder = _cache(config, settings.base_url)
    found = crawl(settings.base_url, settings.total_pages, folder, getter_of(config))
    _complete(folder)
    if listed:  # in this order, so that a list is never beside the record of another
        listed.unlink(missing_ok=True)
        write_json(_record(listed), {**_asked(settings), "species": digest(found)})
        write_json(listed, found)
    return Listing(found, {}), ""


def _outdated(listed: Path, settings: WebCrawl) -> bool:
    """Whether the list is of another crawl than the one asked for, and nobody has changed it since."""
    if not _record(listed).is_file():
        log.warning("  nothing tells which address %s is from; it is taken as it stands (remove it to crawl)", listed)
        return False
    record = read_json(_record(listed), "record of the crawl")
    if all(record.get(key) == value for key, value in _asked(settings).items()):
        return False
    if record.get("species") != digest(read_listing(listed).species):
        raise DataError(
            f"{listed} was changed by hand and comes from {record.get('base_url')} "
            f"({record.get('total_pages')} pages at most), web_crawl asks for {settings.base_url} "
            f"({settings.total_pages}); name another file in paths.web_crawl_output_json, or remove this one"
        )
    return True


def _record(listed: Path) -> Path:
    return listed.with_suffix(".crawl.json")


def _asked(settings: WebCrawl) -> dict[str, Any]:
    return {"base_url": settings.base_url, "total_pages": settings.total_pages}


def _inaturalist_api(config: Config) -> tuple[Listing, str]:
    from pipeline.dataset.sources.inaturalist_api import species_counts

    region = config.region
    where = {"place_id": region.place_id} if region.place_id else {}
    point = {"lat": region.latitude, "lng": region.longitude, "radius": region.radius_km}
    quality = {} if region.quality == "any" else {"quality_grade": region.quality}
    query: dict[str, Any] = {**(where or point), "d1": region.first_day, "d2": region.last_day, **quality}
    query = {key: value for key, value in query.items() if value is not None}
    folder = _cache(config, query)
    found = species_counts(query, _groups(config), folder, getter_of(config))
    _complete(folder)
    return found, ""


def _open_data(config: Config) -> tuple[Listing, str]:
    from pipeline.dataset.sources.open_data import Query, search

    region = config.region
    query = Query(
        area=region.box or region.polygon or Path(), groups=_groups(config),
        first_day=region.first_day, last_day=region.last_day, quality=region.quality,
        licences=region.licences, per_species=region.photos.per_species, seed=config.seed,
    )  # fmt: skip
    photos = config.dataset_dir / PHOTOS
    found = search(_file(config), query, photos, region.memory_gb)
    return found, f", {ParquetFile(photos).metadata.num_rows} photos"


def _species_list(config: Config) -> tuple[Listing, str]:
    return read_listing(_file(config)), ""


def _darwin_core(config: Config) -> tuple[Listing, str]:
    from pipeline.dataset.sources.darwin_core import read_archive

    return read_archive(_file(config)), ""


_SOURCES = {
    "check_list": _check_list,
    "inaturalist_api": _inaturalist_api,
    "open_data": _open_data,
    "species_list": _species_list,
    "darwin_core": _darwin_core,
}


def _groups(config: Config) -> list[str]:
    if wrong := [name for name in config.global_.included_classes if name not in GROUPS]:
        raise ConfigError(
            f"global.included_classes: {', '.join(wrong)} is no group of iNaturalist; its groups are {', '.join(GROUPS)}"
        )
    return config.global_.included_classes


def _file(config: Config) -> Path:
    if config.region.file is None:
        raise AssertionError("the configuration is checked for it")
    return config.region.file


def _fingerprint(path: Path) -> Any:
    if path.is_dir():  # the tables of a snapshot, too large to be read twice
        return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(path.glob("*.csv*"))]
    return sha256(path) if path.is_file() else "missing"


def _cache(config: Config, query: Any) -> Path:
    """Where the pages of this query are kept; a finished one is thrown away when it is to be done again."""
    folder = config.dataset_dir / "pages" / f"{config.region.source}_{digest(query)}"
    if config.global_.overwrite and (folder / "complete").is_file():
        log.info("  pages of %s are asked for again (global.overwrite)", folder)
        shutil.rmtree(folder)
    return folder


def _complete(folder: Path) -> None:
    write_json(folder / "complete", True)


def getter_of(config: Config) -> Get:
    """The way to servers, by the configuration's contact and delay."""
    from pipeline.dataset.sources.network import Policy, getter

    return getter(config.region.contact, Policy(delay=config.web_crawl.delay_between_requests))


STAGE = Stage("region", _inputs, _outputs, _run, _intact, lambda config: config.region.source is not None)
