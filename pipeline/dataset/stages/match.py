"""Stage match: which species of the photos live in the region."""

from __future__ import annotations

from typing import Any

from pipeline.config import Config
from pipeline.dataset.composition import Composition
from pipeline.dataset.matching import match, report
from pipeline.dataset.names import read_synonyms
from pipeline.dataset.sources.species_list import read_species_list
from pipeline.dataset.stages.listing import analysis_files, matched_file
from pipeline.dataset.stages.region import region_file
from pipeline.dataset.stages.stage import Stage
from pipeline.files import read_json, sha256, write_json

REPORT = "match_report.json"


def _outputs(config: Config) -> list[str]:
    return [matched_file(config), REPORT]


def _inputs(config: Config) -> dict[str, Any]:
    listed, synonyms = region_file(config), config.region.synonyms
    return {
        "photos": sha256(config.dataset_dir / analysis_files(config)[1]),
        "list": sha256(listed) if listed and listed.is_file() else str(listed),
        "names": config.region.names,
        "synonyms": sha256(synonyms) if synonyms and synonyms.is_file() else str(synonyms),
    }


def _run(config: Config) -> str:
    composition: Composition = read_json(config.dataset_dir / analysis_files(config)[1], "composition")
    photos = {group: list(counts) for group, counts in composition.items()}
    listed, synonyms = region_file(config), config.region.synonyms
    region = read_species_list(listed, photos) if listed else photos
    table = read_synonyms(synonyms) if synonyms else None
    result = match(photos, region, config.region.names == "normalised", table)
    for path, data in zip(_outputs(config), (result.matched, report(result, photos, region)), strict=True):
        write_json(config.dataset_dir / path, data)
    if not listed:
        return f"no species list given: all {result.total} species"
    sizes = [sum(map(len, names.values())) for names in (photos, region)]
    spelt = f", {len(result.joined)} of them spelt differently" if result.joined else ""
    more = f"; {len(result.offered)} more by region.names=normalised" if result.offered else ""
    return f"{result.total} species of {sizes[0]} with photos and {sizes[1]} listed{spelt}{more}"


STAGE = Stage("match", _inputs, _outputs, _run)
