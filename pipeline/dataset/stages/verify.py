"""Stage verify: open and hash every photo once."""

from __future__ import annotations

from typing import Any

from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.stages.listing import placed
from pipeline.dataset.stages.stage import Stage
from pipeline.dataset.verify import trust, verify
from pipeline.errors import DataError
from pipeline.files import digest, listing_digest, write_parquet

VERIFIED = "verified.parquet"


def _inputs(config: Config) -> dict[str, Any]:
    root = config.paths.dst_dataset
    photos = placed(config)
    if not config.dataset.verify:
        return {"trusted": digest(photos)}
    return {"photos": listing_digest(root, [root / photo.path for photo in photos]), "known": digest(photos)}


def _run(config: Config) -> str:
    root = config.paths.dst_dataset
    photos = placed(config)
    table = verify(root, photos, config.dataset.workers) if config.dataset.verify else trust(photos)
    if not table["ok"].any():
        first = f"{table['image_path'].iloc[0]} {table['reason'].iloc[0]}"
        raise DataError(f"none of the {len(table)} photos below {root} can be read, e.g. {first}")
    write_parquet(config.dataset_dir / VERIFIED, table)
    bad = table[~table["ok"]]
    for row in bad.head(10).itertuples():
        log.warning("  bad photo %s: %s", row.image_path, row.reason)
    if not config.dataset.verify:
        return f"{len(table)} photos are trusted unseen (dataset.verify: false)"
    return f"{len(table) - len(bad)} photos are readable, {len(bad)} are not"


STAGE = Stage("verify", _inputs, lambda config: [VERIFIED], _run)
