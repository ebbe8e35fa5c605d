"""Stage match: which species of the photos live in the region."""

from __future__ import annotations

from typing import Any

from pipeline.config import Config
from pipeline.dataset.composition import Composition
from pipeline.dataset.matching import match
from pipeline.dataset.sources.species_list import read_species_list
from pipeline.dataset.stages.listing import analysis_files, matched_file
from pipeline.dataset.stages.stage import Stage
from pipeline.files import read_json, sha256, write_json

REPORT = "match_report.json"


def _outputs(config: Config) -> list[str]:
    return [matched_file(config), REPORT]


def _inputs(config: Config) -> dict[str, Any]:
    listed = config.paths.web_crawl_output_json
    return {
        "photos": sha256(config.dataset_dir / analysis_files(config)[1]),
        "list": sha256(listed) if listed and listed.is_file() else str(listed),
    }


def _run(config: Config) -> str:
    composition: Composition = read_json(config.dataset_dir / analysis_files(config)[1], "composition")
    photos = {group: list(counts) for group, counts in composition.items()}
    listed = config.paths.web_crawl_output_json
    region = read_species_list(listed, photos) if listed else photos
    result = match(photos, region)
    matched, report = _outputs(config)
    write_json(config.dataset_dir / matched, result.matched)
    write_json(
        config.dataset_dir / report,
        {"only_in_photos": result.only_photos, "only_in_region": result.only_region},
    )
    if not listed:
        return f"no species list given: all {result.total} species"
    sizes = [sum(map(len, names.values())) for names in (photos, region)]
    return f"{result.total} species of {sizes[0]} with photos and {sizes[1]} listed"


STAGE = Stage("match", _inputs, _outputs, _run)
