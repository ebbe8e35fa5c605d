"""Stage analyse: the species in the photos, and the number of photos of each."""

from __future__ import annotations

from typing import Any

from pipeline.config import Config
from pipeline.dataset.stages.listing import analysis_files, composition, source
from pipeline.dataset.stages.stage import Stage
from pipeline.files import write_json


def _inputs(config: Config) -> dict[str, Any]:
    return {"composition": composition(config)}


def _run(config: Config) -> str:
    found = source(config)
    for path, data in zip(analysis_files(config), (found.species, composition(config)), strict=True):
        write_json(config.dataset_dir / path, data)
    told = [f"{len(found.photos)} photos of {sum(map(len, found.species.values()))} species"]
    told[0] += f" in {len(found.species)} groups"
    if found.others:
        told.append(f"{len(found.others)} other files ignored, e.g. {found.others[0]}")
    if found.missing:
        told.append(f"{len(found.missing)} listed photos are not there, e.g. {found.missing[0]}")
    return "; ".join(told)


STAGE = Stage("analyse", _inputs, analysis_files, _run)
