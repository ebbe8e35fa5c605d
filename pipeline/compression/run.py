"""From trained model folders to model.onnx and model.int8.onnx, with a report of what the change costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.compression.export import export
from pipeline.compression.quantization import calibration_sample, quantize
from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.manifest import Manifest, read_manifest
from pipeline.edge.errors import UnreadableImage
from pipeline.edge.model import Model
from pipeline.edge.recipe import Recipe, decode, preprocess
from pipeline.errors import DataError, ModelError
from pipeline.files import Stamp, run_once, write_json
from pipeline.labels import LabelSpace
from pipeline.models.checkpoint import load_model, read_card

BATCH = 32


def trained_models(config: Config) -> list[Path]:
    """Model folders of the experiment, caches first in order of their window, main last."""
    folders = [path.parent for path in config.models.glob("*/model.json")]
    if not folders:
        raise ModelError(f"no trained model in {config.models}; run train.py with the same --config first")
    cards = {folder: read_card(folder) for folder in folders}
    return sorted(folders, key=lambda f: (cards[f].role == "main", cards[f].window or (0, 0), f.name))


def quantize_models(config: Config, names: list[str] | None = None) -> None:
    """Export and quantize the named models of the experiment, or all; what is up to date is skipped."""
    manifest = read_manifest(config.dataset_dir, config.paths.dst_dataset)
    folders = [config.models / name for name in names] if names else trained_models(config)
    for folder in folders:
        _one(config, manifest, folder)


def _one(config: Config, manifest: Manifest, folder: Path) -> None:
    card = read_card(folder)
    outputs = [folder / name for name in ("model.onnx", "model.int8.onnx", "export.json")]
    inputs = {"weights": card.weights_sha256, "manifest": manifest.hash, "settings": config.quantize.model_dump()}
    if card.data_hash != manifest.hash:
        raise ModelError(
            f"{folder} was trained on manifest {card.data_hash}, this one is {manifest.hash}; train it again"
        )
    stamp = Stamp(folder / ".stamps" / "quantize.json", inputs, outputs)
    run_once(
        f"quantize  {card.name}",
        stamp,
        config.global_.overwrite,
        lambda: _export_both(config, manifest, folder, outputs),
    )


def _export_both(config: Config, manifest: Manifest, folder: Path, outputs: list[Path]) -> None:
    network, card = load_model(folder)
    card = replace(card, training={key: card.training[key] for key in ("fingerprint", "epoch") if key in card.training})
    sample = calibration_sample(manifest.part("train"), config.quantize.calibration_images, config.seed)
    val = manifest.part("val")
    some = val.sample(min(len(val), config.quantize.parity_images), random_state=config.seed)
    agreement = export(
        network, card, outputs[0], load_photos(manifest, some, card.recipe), config.quantize.parity_tolerance
    )
    quantize(outputs[0], outputs[1], load_photos(manifest, sample, card.recipe), config.quantize.method)
    report = _compare(manifest, val, outputs[0], outputs[1])
    write_json(
        outputs[2], {"model": card.name, "parity": agreement, **report, "settings": config.quantize.model_dump()}
    )
    log.info(
        "quantize  %s: %.2f -> %.2f MB, val accuracy %.4f -> %.4f, same answer on %.1f %%",
        card.name, report["fp32"]["bytes"] / 1e6, report["int8"]["bytes"] / 1e6,
        report["fp32"]["val_accuracy"], report["int8"]["val_accuracy"], 100 * report["val_agreement"],
    )  # fmt: skip


def load_photos(manifest: Manifest, rows: pd.DataFrame, recipe: Recipe) -> NDArray[np.uint8]:
    """Photos of these rows as the device sees them: (n, size, size, 3) uint8."""
    photos = []
    for path in rows["image_path"]:
        try:
            photos.append(preprocess(decode(manifest.root / path, recipe.decode_side), recipe))
        except UnreadableImage as error:
            raise DataError(f"{manifest.root / path}: {error}; run dataset_orchestrator.py again") from error
    return np.stack(photos)


def _compare(manifest: Manifest, rows: pd.DataFrame, fp32: Path, int8: Path) -> dict[str, Any]:
    """Accuracy of both files on val, and how often they agree; their sizes."""
    models = {"fp32": Model(fp32, threads=2), "int8": Model(int8, threads=2)}
    answers: dict[str, list[NDArray[np.intp]]] = {name: [] for name in models}
    for start in range(0, len(rows), BATCH):
        photos = load_photos(manifest, rows.iloc[start : start + BATCH], models["fp32"].recipe)
        for name, model in models.items():
            answers[name].append(model.logits(photos).argmax(1))
    truth = LabelSpace(models["fp32"].labels).ids(rows["species"].tolist())
    best = {name: np.concatenate(parts) for name, parts in answers.items()}
    report: dict[str, Any] = {
        name: {"bytes": path.stat().st_size, "val_accuracy": float((best[name] == truth).mean())}
        for name, path in (("fp32", fp32), ("int8", int8))
    }
    return {**report, "val_photos": len(rows), "val_agreement": float((best["fp32"] == best["int8"]).mean())}
