"""Rank windows of the caches: which of the ranked species each cache knows."""

from __future__ import annotations

from pipeline.config import Config
from pipeline.dataset.labelling import ranked
from pipeline.dataset.manifest import Manifest, learnt_manifest
from pipeline.labels import LabelSpace, window


def cache_labels(config: Config, manifest: Manifest, start: int) -> LabelSpace:
    """The species of the window that begins after `start` ranks, and "Other"."""
    ranking, size = _ranking(config, manifest)
    return window(ranking, size, start)


def start_ranks(config: Config, manifest: Manifest | None = None) -> list[int]:
    """cache.start_ranks; with cache.windows 0, n, 2n, ..., n being the species of a window."""
    if not config.cache.windows:
        return config.cache.start_ranks
    _, size = _ranking(config, manifest or learnt_manifest(config))
    return [size * i for i in range(config.cache.windows)]


def cache_names(config: Config) -> list[str]:
    """Model folders of the configured caches, in order of their windows."""
    return [config.cache_name(start) for start in start_ranks(config)]


def _ranking(config: Config, manifest: Manifest) -> tuple[list[str], int]:
    """The labels in rank order, and how many of them make a window."""
    if config.labels.mode == "binary":
        return list(manifest.labels.names), 1
    ranking, dominant = ranked(
        config.labels, manifest.composition(), 1.0 if config.cache.species else config.cache_threshold
    )
    return ranking, config.cache.species or dominant
