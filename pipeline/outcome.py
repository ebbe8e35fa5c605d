"""Results of each step for its script's --json: paths, figures from the files, and the next command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.console import Facts
from pipeline.files import read_json

FIGURES = ("accuracy", "macro_f1", "main_alone_accuracy", "communication_rate")  # each with its 95 % interval beside it


def of_dataset(config: Config, unusable: int, part: str | None) -> Facts:
    """Photos per split and the pages; `part`: the stage that was the last or the only one, which may leave neither."""
    found = {"failed": unusable, "folder": config.dataset_dir}
    if part:
        return found
    from pipeline.dataset.manifest import experiment_manifest

    read = experiment_manifest(config)
    rows = read.rows[read.rows["split"] != ""]
    return {
        **found,
        "manifest": config.dataset_dir / "dataset_manifest.parquet",
        "card": config.dataset_dir / "data_card.html",
        "photos": {str(split): int(n) for split, n in rows["split"].value_counts().sort_index().items()},
        "species": rows["species"].nunique(),
        "next": "train.py main with the same --config, then train.py cache",
    }


def of_training(folders: Sequence[Path]) -> Facts:
    """The trained model folders with their metrics on val."""
    from pipeline.models.checkpoint import read_card
    from pipeline.training.run import left_out

    cards = {folder: read_card(folder) for folder in folders}
    models = [
        {"name": card.name, "folder": folder, "labels": len(card.labels), **card.metrics}
        for folder, card in cards.items()
    ]
    return {"failed": left_out(folders), "models": models, "next": "quantize.py with the same --config"}


def of_exports(folders: Iterable[Path]) -> Facts:
    """Files and what int8 costs on val, per model."""
    models = []
    for folder in folders:
        report = read_json(folder / "quantization_report.json", "report on the export")
        files = {"onnx": folder / "model.onnx", "int8": folder / "model.int8.onnx"}
        told = {key: report["val"][key] for key in ("accuracy_drop", "agreement")}
        models.append({"name": folder.name, **files, "bytes": report["bytes"], **told})
    return {"models": models, "next": "eval.py with the same --config"}


def of_evaluation(config: Config, unreadable: int) -> Facts:
    """Accuracy and macro F1 on test with their 95 % intervals: of the cascade, and of each model."""
    path = config.output / "metrics.json"
    metrics, precision = read_json(path, "figures of the evaluation"), config.route.precision
    return {
        "failed": unreadable,
        "metrics": path,
        "precision": precision,
        "photos": metrics["cascade"][precision]["photos"],
        "cascade": _headline(metrics["cascade"][precision]),
        "models": {name: _headline(both[precision]) for name, both in metrics["models"].items()},
        "next": "deploy.py with the same --config",
    }


def of_folder(result: dict[str, Any]) -> Facts:
    """The figures on another folder of photos."""
    return {**result, "failed": len(result["unreadable"])}


def of_bundle(folder: Path) -> Facts:
    """The bundle's stages and size."""
    description = read_json(folder / "cascade.json", "description of the cascade")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    stages = [stage["name"] for stage in description["stages"]]
    return {"bundle": folder, "stages": stages, "bytes": size, "next": f"python3 {folder / 'classify.py'} PHOTO"}


def _headline(figures: dict[str, Any]) -> dict[str, Any]:
    return {key: figures[key] for name in FIGURES for key in (name, f"{name}_95") if key in figures}
