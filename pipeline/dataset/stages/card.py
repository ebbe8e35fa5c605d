"""Stage card: the data card, as one self-contained HTML page, and as Markdown beside the pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.config import Config
from pipeline.dataset import card
from pipeline.dataset.manifest import Manifest, experiment_manifest
from pipeline.dataset.page import Part, render
from pipeline.dataset.stages.download import LEDGER
from pipeline.dataset.stages.label import LABEL_FILES
from pipeline.dataset.stages.manifest import MANIFEST_FILES
from pipeline.dataset.stages.match import REPORT
from pipeline.dataset.stages.plots import INDEX
from pipeline.dataset.stages.stage import Stage
from pipeline.dataset.stages.test_sets import SUMMARY
from pipeline.files import read_json, sha256, write_text

FILES = ["data_card.html", "data_card.md"]
SETTINGS = ("experiment", "global", "paths", "web_crawl", "region", "train_val_split", "dataset", "labels", "test_sets")


def _settings(config: Config) -> dict[str, Any]:
    """The configuration sections of the data set; those of the models are stored beside the models."""
    return {key: value for key, value in config.dump().items() if key in SETTINGS}


def _hashes(config: Config) -> dict[str, str]:
    names = [*MANIFEST_FILES, *LABEL_FILES, REPORT, SUMMARY, INDEX]
    if (config.dataset_dir / LEDGER).is_file():
        names.append(LEDGER)
    return {name: sha256(config.dataset_dir / name) for name in names}


def _inputs(config: Config) -> dict[str, Any]:
    return {"files": _hashes(config), "settings": _settings(config), "versions": card.versions()}


def _run(config: Config) -> str:
    folder = config.dataset_dir
    manifest = experiment_manifest(config)
    parts = list(_parts(config, manifest))
    used = manifest.rows[manifest.rows["split"] != ""]
    lead = (
        f"{len(used):,} photos of {used['species'].nunique():,} species ({', '.join(used['group'].unique())}), "
        "split once into train, val and test."
    )
    for name in FILES:
        text = render(f"{config.experiment}: data card", lead, parts, f"page{Path(name).suffix}.jinja", folder)
        write_text(folder / name, text)
    return f"{folder / FILES[0]}"


def _parts(config: Config, manifest: Manifest) -> Iterator[Part]:
    folder = config.dataset_dir
    shown = [(folder / "plots" / row["file"], row["caption"]) for row in read_json(folder / INDEX, "index of pictures")]
    yield card.overview(manifest)
    yield card.groups(manifest, config.global_.included_classes)
    yield Part("Pictures", pictures=[one for one in shown if not re.search(r"_examples_(?!001)", one[0].name)])
    yield card.test_sets(read_json(folder / SUMMARY, "summary of the test sets"))
    yield from card.names(read_json(folder / REPORT, "report of the match"))
    yield card.bad_photos(manifest)
    yield card.duplicates(manifest)
    ledger = pd.read_parquet(folder / LEDGER) if (folder / LEDGER).is_file() else None
    credits = card.credits(manifest, ledger)
    yield card.licences(credits)
    if credits is not None and config.dataset.examples:
        yield card.shown(manifest, credits, list(_examples(config, manifest)))
    yield card.species(manifest)
    yield card.settings(_settings(config))
    yield card.provenance(_hashes(config))


def _examples(config: Config, manifest: Manifest) -> Iterator[str]:
    """The photos on the first sheet of each group, which the card shows."""
    from pipeline.dataset import examples  # slow to import

    for group in config.global_.included_classes:
        rows = manifest.rows[manifest.rows["group"] == group]
        for one in examples.choose(rows, manifest.root, config.dataset.examples, manifest.seed)[: examples.PER_SHEET]:
            yield from (photo.relative_to(manifest.root).as_posix() for photo in one.chosen)


STAGE = Stage("card", _inputs, lambda config: FILES, _run)
