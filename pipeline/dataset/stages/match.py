"""Stage match: find which species of the photos live in the region."""

from __future__ import annotations

from typing import Any

from pipeline.config import Config
from pipeline.dataset.composition import Composition
from pipeline.dataset.matching import match, observations, report
from pipeline.dataset.names import read_synonyms
from pipeline.dataset.sources.species_list import read_species_list
from pipeline.dataset.stages.listing import analysis_files, matched_file
from pipeline.dataset.stages.region import OBSERVATIONS, listed, region_file
from pipeline.dataset.stages.stage import Stage
from pipeline.files import read_json, sha256, write_json

REPORT = "match_report.json"
OBSERVED = "matched_observations.json"  # {group: {folder: n}}, for labels.weights and monte_carlo.observed


def _outputs(config: Config) -> list[str]:
    return [matched_file(config), REPORT, OBSERVED]


def _inputs(config: Config) -> dict[str, Any]:
    found, synonyms = region_file(config), config.region.synonyms
    return {
        "photos": sha256(config.dataset_dir / analysis_files(config)[1]),
        "list": sha256(found) if found and found.is_file() else str(found),
        "observations": sha256(config.dataset_dir / OBSERVATIONS) if config.region.source else None,
        "names": config.region.names,
        "synonyms": sha256(synonyms) if synonyms and synonyms.is_file() else str(synonyms),
    }


def _run(config: Config) -> str:
    composition: Composition = read_json(config.dataset_dir / analysis_files(config)[1], "composition")
    photos = {group: list(counts) for group, counts in composition.items()}
    path, synonyms, known = region_file(config), config.region.synonyms, listed(config)
    region = read_species_list(path, photos) if path else photos
    table = read_synonyms(synonyms) if synonyms else None
    result = match(photos, region, config.region.names == "normalised", table)
    told = report(result, photos, region, known.species if known else region)
    seen = observations(result, known.observations if known else {})
    for file, data in zip(_outputs(config), (result.matched, told, seen), strict=True):
        write_json(config.dataset_dir / file, data)
    if not known:
        return f"no species list given: all {result.total} species"
    sizes = [sum(map(len, names.values())) for names in (photos, region)]
    spelt = f", {len(result.joined)} of them spelt differently" if result.joined else ""
    more = f"; {len(result.offered)} more by region.names=normalised" if result.offered else ""
    return f"{result.total} species of {sizes[0]} with photos and {sizes[1]} listed{spelt}{more}"


STAGE = Stage("match", _inputs, _outputs, _run)
