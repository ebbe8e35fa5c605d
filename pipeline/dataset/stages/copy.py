"""Stage copy: place the matched photos in the regional data set."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pipeline.config import Config
from pipeline.dataset.copying import arrived, place, place_from_archive, placed
from pipeline.dataset.formats.base import Photo
from pipeline.dataset.stages.listing import matched, root, source
from pipeline.dataset.stages.stage import Stage
from pipeline.dataset.storing import store, unstored
from pipeline.errors import ConfigError, DataError
from pipeline.files import listing_digest


def _inputs(config: Config) -> dict[str, Any]:
    """Without the photos themselves, whose changes _intact detects."""
    packed, archives = _sources(config)[1], source(config).archives
    return {
        "photos": [photo.path for photo in matched(config)],
        "from": [
            str(config.paths.src_dataset),
            listing_digest(root(config), [archives[top] for top in sorted(packed)]),
        ],
        "to": str(config.paths.dst_dataset),
        "how": config.dataset.model_dump(mode="json", include={"copy_mode", "compare", "store"}),
    }


def _sources(config: Config) -> tuple[list[Photo], dict[str, list[Photo]]]:
    """The matched photos that are files, and those in archives by the first folder of their paths."""
    archives = source(config).archives
    if not archives:
        return matched(config), {}
    loose: list[Photo] = []
    packed: dict[str, list[Photo]] = {}
    for photo in matched(config):
        top = photo.path.partition("/")[0]
        (packed.setdefault(top, []) if top in archives else loose).append(photo)
    return loose, packed


def _intact(config: Config) -> bool:
    src, dst, dataset = root(config), config.paths.dst_dataset, config.dataset
    loose, packed = _sources(config)
    if dataset.store.size:
        return next(unstored(loose, src, dst, dataset.store), None) is None
    whole = all(arrived(dst / photo.path) for photos in packed.values() for photo in photos)
    return whole and placed(loose, src, dst, dataset.copy_mode, dataset.compare == "hash")


def _run(config: Config) -> str:
    src, dst, dataset = root(config), config.paths.dst_dataset, config.dataset
    loose, packed = _sources(config)
    if not loose and not packed:
        raise DataError(f"the matched species have no photos below {config.paths.src_dataset}; see match_report.json")
    counts: Counter[str] = Counter()
    if dataset.store.size:
        if packed:
            raise ConfigError("dataset.store takes photos that are files; unpack the archives first")
        counts += store(loose, src, dst, dataset.store, dataset.workers)
    else:
        for top, photos in sorted(packed.items()):
            counts += place_from_archive(photos, source(config).archives[top], dst, dataset.compare == "hash")
        counts += place(loose, src, dst, dataset.copy_mode, dataset.compare == "hash")
    return ", ".join(f"{n} {what}" for what, n in sorted(counts.items())) + f" in {dst}"


STAGE = Stage("copy", _inputs, lambda config: [], _run, _intact)
