"""Export and quantize trained model folders (model.onnx, model.int8.onnx), with a report of the loss of accuracy."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.compression.export import export, logits
from pipeline.compression.formats import TRITON_FILES, torchscript, triton
from pipeline.compression.mixed import search, sensitivity
from pipeline.compression.quality import compare, layer_table, report
from pipeline.compression.quantization import calibration_sample, prepared
from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.manifest import Manifest, learnt_manifest
from pipeline.dataset.verify import readable
from pipeline.edge.errors import UnreadableImage
from pipeline.edge.model import Model
from pipeline.edge.recipe import Recipe, decode, preprocess
from pipeline.errors import DataError, ModelError
from pipeline.files import Stamp, run_once, sha256, write_json
from pipeline.labels import LabelSpace
from pipeline.models.checkpoint import CARD, finished_model, read_card

BATCH = 32
OUTPUTS = ("model.onnx", "model.int8.onnx", "export.json", "quantization_report.json", "quantization_layers.csv")


def trained_models(config: Config) -> list[Path]:
    """Model folders of the experiment, caches first in order of their window, main last."""
    folders = [path.parent for path in config.models.glob(f"*/{CARD}")]
    if not folders:
        raise ModelError(f"no trained model in {config.models}; run train.py with the same --config first")
    cards = {folder: read_card(folder) for folder in folders}
    return sorted(folders, key=lambda f: (cards[f].role == "main", cards[f].window or (0, 0), f.name))


def quantize_models(config: Config, names: list[str] | None = None) -> list[Path]:
    """Export and quantize the named models of the experiment, or all; what is up to date is skipped. Returns the folders."""
    manifest = learnt_manifest(config)
    folders = [config.models / name for name in names] if names else trained_models(config)
    for folder in folders:
        _one(config, manifest, folder)
    return folders


def _one(config: Config, manifest: Manifest, folder: Path) -> None:
    card = read_card(folder)
    settings = {"batch": config.export.batch, **config.quantize.model_dump()}
    inputs = {"weights": card.weights_sha256, "manifest": manifest.hash, "settings": settings}
    manifest.check_trained_on(card.data_hash, str(folder))
    stamp = Stamp(folder / ".stamps" / "quantize.json", inputs, [folder / name for name in OUTPUTS])
    again = config.global_.overwrite
    run_once(f"quantize  {card.name}", stamp, again, lambda: _export_both(config, manifest, folder))
    for name in config.export.formats:
        _other_format(config, manifest, folder, name)


def _other_format(config: Config, manifest: Manifest, folder: Path, name: Literal["torchscript", "triton"]) -> None:
    """Write model.torchscript.pt beside model.onnx, or the model's entry in the Triton repository output/.../triton."""
    source, tolerance = folder / "model.onnx", config.quantize.parity_tolerance
    if name == "triton":
        place = config.output / "triton" / folder.name
        outputs, write = [place / file for file in TRITON_FILES], partial(triton, source, place)
    else:
        some = _parity_rows(config, readable(manifest.root, manifest.part("val")))
        photos = partial(load_photos, manifest, some, read_card(folder).recipe)
        script = folder / "model.torchscript.pt"
        outputs, write = [script], partial(torchscript, folder, script, photos, tolerance)
    stamp = Stamp(folder / ".stamps" / f"{name}.json", {"model": sha256(source), "tolerance": tolerance}, outputs)
    run_once(f"quantize  {folder.name} as {name}", stamp, config.global_.overwrite, write)


def _parity_rows(config: Config, val: pd.DataFrame) -> pd.DataFrame:
    return val.sample(min(len(val), config.quantize.parity_images), random_state=config.seed)


@contextmanager
def _all_or_none(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """A scratch folder; its files of these names move into `folder` only when the block succeeds."""
    scratch = folder / ".quantize.tmp"
    shutil.rmtree(scratch, ignore_errors=True)  # of a killed run
    try:
        yield scratch
        for name in names:
            (scratch / name).replace(folder / name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _export_both(config: Config, manifest: Manifest, folder: Path) -> None:
    network, card = finished_model(folder)
    card = replace(card, training={key: card.training[key] for key in ("fingerprint", "epoch") if key in card.training})
    settings = config.quantize
    sample = calibration_sample(manifest.part("train"), settings.calibration_images, config.seed, card.labels)
    if len(sample) < settings.calibration_images:
        log.info(
            "  %s is calibrated on all %d photos of train: quantize.calibration_images asks for %d",
            card.name, len(sample), settings.calibration_images,
        )  # fmt: skip
    elif len(sample) < len(card.labels):
        log.warning(
            "  %d calibration photos for the %d labels of %s: some are not seen; raise quantize.calibration_images",
            len(sample), len(card.labels), card.name,
        )  # fmt: skip
    sample, val = readable(manifest.root, sample), readable(manifest.root, manifest.part("val"))
    some = _parity_rows(config, val)
    with _all_or_none(folder, OUTPUTS) as scratch:
        fp32, int8, export_json, report_json, layers_csv = (scratch / name for name in OUTPUTS)
        photos = load_photos(manifest, some, card.recipe)
        agreement = export(network, card, fp32, photos, settings.parity_tolerance, config.export.batch)
        judge = _judge(_kept(manifest, val, card.recipe, scratch / "val.npy"), val["species"], fp32)
        with prepared(fp32, load_photos(manifest, sample, card.recipe), settings) as ready:
            layers = sensitivity(ready)
            allowed = max(settings.max_drop, 1 / len(val))  # the loss of a single photo is no evidence
            trials = search(ready, layers, judge, allowed, int8)
        figures = report(fp32, int8, layers, trials, allowed)
        write_json(export_json, {"model": card.name, "batch": config.export.batch, "parity": agreement})
        write_json(report_json, {"model": card.name, **figures, "settings": settings.model_dump()})
        layer_table(layers, trials[-1]["float_layers"]).to_csv(layers_csv, index=False, float_format="%.6g")
    _tell(card.name, figures, settings.max_drop)


def _kept(manifest: Manifest, rows: pd.DataFrame, recipe: Recipe, file: Path) -> NDArray[np.uint8]:
    """Photos as load_photos gives them, kept in a memory-mapped file: each trial of int8 looks at all of them."""
    photos: NDArray[np.uint8] = np.lib.format.open_memmap(
        file, "w+", np.uint8, (len(rows), recipe.size, recipe.size, 3)
    )
    for start in range(0, len(rows), BATCH):
        photos[start : start + BATCH] = load_photos(manifest, rows.iloc[start : start + BATCH], recipe)
    return photos


def _judge(photos: NDArray[np.uint8], species: pd.Series[str], fp32: Path) -> Callable[[Path], dict[str, Any]]:
    """Figures of an int8 file beside fp32's on these photos."""

    def answers(file: Path) -> NDArray[np.float32]:
        model = Model(file, threads=2)
        starts = range(0, len(photos), BATCH)
        return np.concatenate([logits(model, photos[start : start + BATCH]) for start in starts])

    before = answers(fp32)
    truth = LabelSpace(Model(fp32).labels).ids(species.tolist())
    return lambda int8: compare(truth, before, answers(int8))


def load_photos(manifest: Manifest, rows: pd.DataFrame, recipe: Recipe) -> NDArray[np.uint8]:
    """Photos of these rows as the device sees them: (n, size, size, 3) uint8."""
    photos = []
    for path in rows["image_path"]:
        try:
            photos.append(preprocess(decode(manifest.root / path, recipe.decode_side), recipe))
        except UnreadableImage as error:
            raise DataError(f"{manifest.root / path}: {error}") from error
    return np.stack(photos)


def _tell(name: str, report: dict[str, Any], max_drop: float) -> None:
    """One line for a person, and one more where int8 costs more than allowed."""
    val, layers, sizes = report["val"], report["layers"], report["bytes"]
    log.info(
        "quantize  %s: %.2f -> %.2f MB, val accuracy %.4f -> %.4f, same answer on %.1f %%%s",
        name, sizes["fp32"] / 1e6, sizes["int8"] / 1e6, val["fp32"]["accuracy"], val["int8"]["accuracy"],
        100 * val["agreement"], f", {len(layers['float'])} of {layers['total']} layers in float" if layers["float"] else "",
    )  # fmt: skip
    if not report["within_max_drop"]:
        log.warning(
            "  int8 of %s costs %.4f of val accuracy, more than quantize.max_drop %g; see its quantization_report.json",
            name, val["accuracy_drop"], max_drop,
        )  # fmt: skip
