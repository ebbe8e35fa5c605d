"""Pack the bundle for the device: models, cascade.json, labels, an unchanged copy of the edge code, and instructions."""

from __future__ import annotations

import csv
import io
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

import pipeline.edge
import pipeline.field
from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.manifest import experiment_manifest
from pipeline.dataset.stages.download import LEDGER
from pipeline.deploy.cards import data_card, model_card
from pipeline.deploy.renewal import room_beside, take_place
from pipeline.edge.cascade import FORMAT_VERSION, Cascade, load_cascade
from pipeline.edge.model import Model
from pipeline.errors import ModelError
from pipeline.evaluation.predict import model_file
from pipeline.evaluation.run import evaluation_stamp
from pipeline.files import alone, read_json, sha256, write_json, write_text

PACKAGES = ("onnxruntime", "numpy", "pillow")
LAUNCHER = '''#!/usr/bin/env python3
"""Classify photos: classify.py IMAGE|FOLDER... (see README.md)."""

import sys
from pathlib import Path
from typing import Any

from edge.classify import main


def remote(*given: Any) -> Any:
    from field.remote import remote  # with --main only

    return remote(*given)


sys.exit(main(Path(__file__).resolve().parent, remote=remote))
'''


def bundle(config: Config) -> Path:
    """Write output/<experiment>/bundle from the exported models and the measured figures; returns the folder.

    It is built beside its place and takes it only when the packed cascade loads. A bundle that would be the same stays,
    and so does what people put beside our files: results, photos, folders, links. Who packs it meanwhile waits.
    """
    metrics = read_json(config.output / "metrics.json", "evaluation (run eval.py with the same --config first)")
    if not evaluation_stamp(config).fresh():
        raise ModelError(
            f"{config.output / 'metrics.json'} does not fit the settings, or was changed; run eval.py again"
        )
    target = config.output / "bundle"
    with alone(config.output / ".deploy.lock"):
        building = room_beside(target)
        stages = _build(config, metrics, building)
        size = sum(path.stat().st_size for path in building.rglob("*") if path.is_file())
        if take_place(building, target):
            log.info("deploy    %s: %d stages, %.1f MB", target, stages, size / 1e6)
        else:
            log.info("deploy    up to date")
    return target


def _build(config: Config, metrics: dict[str, Any], building: Path) -> int:
    """Write all files into an empty folder; returns the number of stages."""
    measured = metrics["cascade"][config.route.precision]
    stages = [
        _stage(config, name, rule, metrics["models"][name][config.route.precision], building)
        for name, rule in measured["rules"].items()
        if rule is not None
    ]
    keep = (
        "photos",
        "accuracy",
        "accuracy_95",
        "macro_f1",
        "macro_f1_95",
        "main_alone_accuracy",
        "communication_rate",
        "promise",
    )
    description = {
        "format_version": FORMAT_VERSION,
        "experiment": config.experiment,
        "precision": config.route.precision,
        "manifest": metrics["manifest"],
        "stages": stages,
        "measured_on_test": {key: measured[key] for key in keep if key in measured},
        "versions": metrics["versions"],
    }
    write_json(building / "cascade.json", description)
    description["self_test"] = _self_test(building)
    write_json(building / "cascade.json", description)
    _labels(building / "labels.csv", stages)
    _code(building)
    write_text(building / "README.md", _readme(description))
    told = [stage.model.card for stage in load_cascade(building).stages]
    species = pd.read_csv(config.output / "evaluation" / "report_cascade.csv")
    write_text(building / "MODEL_CARD.md", model_card(description, metrics, told, species))
    write_text(building / "DATA_CARD.md", _data_card(config))
    return len(stages)


def _stage(config: Config, name: str, rule: dict[str, Any], measured: dict[str, Any], folder: Path) -> dict[str, Any]:
    source = model_file(config, name, config.route.precision)
    if sha256(source) != measured["sha256"]:
        raise ModelError(f"{source} is not the file that was measured; run eval.py again")
    model = Model(source)
    file = folder / f"{name}.onnx"
    shutil.copyfile(source, file)
    keys = ("role", "window", "labels", "label_hash", "recipe", "recipe_hash")
    return {
        "name": name,
        "file": file.name,
        "rule": rule,
        **{key: model.card[key] for key in keys},
        "sha256": sha256(file),
        "measured_on_test": {key: measured[key] for key in ("accuracy", "macro_f1", "bytes")},
    }


def _self_test(folder: Path) -> dict[str, list[Any]]:
    """Draw self_test.png, blots of all colours, and say what each stage answers to it: its best label and probability."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (8, 10, 3), np.uint8))
    small.resize((400, 320), Image.Resampling.BICUBIC).save(folder / "self_test.png")
    expected = {}
    for stage in load_cascade(folder).stages:
        [(label, score)] = Cascade([stage]).classify(folder / "self_test.png", 1).topk
        expected[stage.name] = [label, round(score, 4)]
    return expected


def _labels(path: Path, stages: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["stage", "label_id", "label"])
    rows.writerows([stage["name"], i, label] for stage in stages for i, label in enumerate(stage["labels"]))
    write_text(path, text.getvalue())


def _code(folder: Path) -> None:
    for package in (pipeline.edge, pipeline.field):
        source = Path(str(package.__file__)).parent
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    write_text(folder / "classify.py", LAUNCHER)
    write_text(folder / "requirements.txt", "".join(f"{name}=={version(name)}\n" for name in PACKAGES))


def _data_card(config: Config) -> str:
    path = config.dataset_dir / LEDGER
    ledger = pd.read_parquet(path) if path.is_file() else None
    manifest = experiment_manifest(config)
    return data_card(config.experiment, manifest, config.global_.included_classes, ledger)


def _when(rule: dict[str, Any]) -> str:
    if not rule["threshold"]:
        return "answers all that it knows"
    return f"answers from a {rule['kind']} of {rule['threshold']:.3f}"


def _readme(description: dict[str, Any]) -> str:
    m = description["measured_on_test"]
    stages = "\n".join(
        f"{i}. `{s['file']}`: {len(s['labels'])} labels, {_when(s['rule'])}"
        for i, s in enumerate(description["stages"], 1)
    )
    alone = "; a photo that no stage is sure of is unknown"
    if "main_alone_accuracy" in m:
        alone = f"; main alone\n{m['main_alone_accuracy']:.3f}; {m['communication_rate']:.1%} of the photos reached it"
    return f"""# {description["experiment"]}: species classifier

    python3 -m venv .venv
    .venv/bin/pip install -r requirements.txt
    .venv/bin/python classify.py doctor
    .venv/bin/python classify.py photos/ --topk 5 --out results.csv

Called again, the last command goes on where it was stopped: results are appended photo by photo, and a photo that has a
row is not asked again. `python3 classify.py --help` tells of lists, watched folders, the camera, and
a main model on a server.

Works offline with Python 3.11 or newer and these three packages. Photos are asked of the stages in order; the first one
that is sure of a species answers:

{stages}

Measured on {m["photos"]} test photos ({description["precision"]}): accuracy {m["accuracy"]:.3f} (95 % interval
{m["accuracy_95"][0]:.3f} to {m["accuracy_95"][1]:.3f}), macro F1 {m["macro_f1"]:.3f}{alone}.
Chosen on other photos: {m["promise"]}.

Each result has: path, status (ok or failed), failures, species, score, stage (which model answered), topk, and ms for
decoding, preparing and each model asked. A photo that cannot be read is a row with its reason; the exit code is then 3.

What it is for and not for, its limits and licences: MODEL_CARD.md; the photos it learnt from: DATA_CARD.md.
"""
