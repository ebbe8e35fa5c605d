"""The stages of the data set in order, one file each; a stage is skipped while its inputs are unchanged."""

from __future__ import annotations

import pandas as pd

from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.composition import total
from pipeline.dataset.stages import (
    analyse,
    card,
    copy,
    download,
    label,
    manifest,
    match,
    plots,
    region,
    split,
    test_sets,
    verify,
)
from pipeline.dataset.stages.listing import read_anew
from pipeline.dataset.stages.stage import run_stage
from pipeline.errors import ConfigError

STAGES = [
    region.STAGE,
    download.STAGE,
    analyse.STAGE,
    match.STAGE,
    copy.STAGE,
    verify.STAGE,
    split.STAGE,
    label.STAGE,
    manifest.STAGE,
    plots.STAGE,
    test_sets.STAGE,
    card.STAGE,
]


def run_stages(config: Config, until: str | None = None, only: str | None = None) -> int:
    """Run the stages in order; returns how many photos could not be used."""
    names = [stage.name for stage in STAGES]
    for name in (until, only):
        if name is not None and name not in names:
            raise ConfigError(f"no stage {name}; stages: {', '.join(names)}")
    chosen = STAGES[: names.index(until) + 1] if until else STAGES
    if config.dataset.demo:
        from pipeline.dataset.demo.make import make_demo  # slow to import

        demo = make_demo(config.paths.src_dataset.parent, config.seed)
        log.info("demo      %d drawn photos in %s", total(demo.composition), demo.photos)
    read_anew()
    for stage in chosen:
        if only in (None, stage.name) and stage.wanted(config):
            run_stage(config, stage)
    verified = config.dataset_dir / verify.VERIFIED
    bad = int((~pd.read_parquet(verified, columns=["ok"])["ok"]).sum()) if verified.is_file() else 0
    return bad + download.missing(config)
