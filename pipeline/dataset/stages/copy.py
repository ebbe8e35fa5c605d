"""Stage copy: the matched photos into the regional data set."""

from __future__ import annotations

from typing import Any

from pipeline.config import Config
from pipeline.dataset.copying import place, placed
from pipeline.dataset.stages.listing import matched
from pipeline.dataset.stages.stage import Stage
from pipeline.errors import DataError
from pipeline.files import listing_digest


def _inputs(config: Config) -> dict[str, Any]:
    root = config.paths.src_dataset
    photos = listing_digest(root, [root / photo.path for photo in matched(config)])
    return {"from": photos, "to": str(config.paths.dst_dataset), "mode": config.dataset.copy_mode}


def _intact(config: Config) -> bool:
    src, dst, mode = config.paths.src_dataset, config.paths.dst_dataset, config.dataset.copy_mode
    return all(placed(src / photo.path, dst / photo.path, mode) for photo in matched(config))


def _run(config: Config) -> str:
    photos = matched(config)
    if not photos:
        raise DataError(f"the matched species have no photos below {config.paths.src_dataset}; see match_report.json")
    counts = place(photos, config.paths.src_dataset, config.paths.dst_dataset, config.dataset.copy_mode)
    return ", ".join(f"{n} {what}" for what, n in sorted(counts.items())) + f" in {config.paths.dst_dataset}"


STAGE = Stage("copy", _inputs, lambda config: [], _run, _intact)
