"""Predict once: every model classifies every photo of val and test one time; all figures come from the stored logits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from pipeline.config import Config
from pipeline.console import log, progress
from pipeline.dataset.manifest import Manifest
from pipeline.dataset.windows import cache_names
from pipeline.edge.errors import UnreadableImage
from pipeline.edge.model import Model
from pipeline.edge.recipe import Recipe, decode, preprocess
from pipeline.edge.rule import probabilities
from pipeline.errors import DataError, LabelSpaceError, ModelError
from pipeline.evaluation.views import Views
from pipeline.files import Stamp, read_arrow, run_once, sha256, write_arrow
from pipeline.labels import LabelSpace

TIMES = ("decode_ms", "preprocess_ms", "infer_ms")
EVALUATED: tuple[str, ...] = ("val", "test")  # what every evaluation needs
WARM_UP = 5  # photos before the first timed one
FILES = {"fp32": "model.onnx", "int8": "model.int8.onnx"}


@dataclass(frozen=True)
class Predictions:
    """rows: image_path, species, split, decode_ms, preprocess_ms, infer_ms, reason ("" or why there are no logits).

    logits: (rows, labels) float32, NaN where a photo could not be read. card: the model's, as its ONNX file carries it.
    """

    rows: pd.DataFrame
    logits: NDArray[np.float32]
    card: dict[str, Any]
    data_hash: str

    @property
    def name(self) -> str:
        return str(self.card["name"])

    @property
    def labels(self) -> LabelSpace:
        return LabelSpace(tuple(self.card["labels"]))

    def part(self, split: str) -> Predictions:
        """The readable photos of one split."""
        return self.where(((self.rows["split"] == split) & (self.rows["reason"] == "")).to_numpy())

    def where(self, keep: NDArray[np.bool_]) -> Predictions:
        """A subset of the photos."""
        return Predictions(self.rows[keep].reset_index(drop=True), self.logits[keep], self.card, self.data_hash)


def one_view(photo: Image.Image, recipe: Recipe, path: str) -> NDArray[np.uint8]:
    """The device's one view of a photo."""
    return preprocess(photo, recipe)[None]


def predict(model: Model, root: Path, rows: pd.DataFrame, data_hash: str, views: Views = one_view) -> Predictions:
    """Classify each photo of `rows` (image_path, species, split), one at a time like the device. Times in ms.

    Of several views the probabilities are averaged; the logits are then their logarithms.
    """
    logits = np.full((len(rows), len(model.labels)), np.nan, np.float32)
    times = np.zeros((len(rows), 3))
    reasons = [""] * len(rows)
    blank = np.zeros((1, model.recipe.size, model.recipe.size, 3), np.uint8)
    for _ in range(WARM_UP):
        model.logits(blank)
    for i, path in enumerate(progress(rows["image_path"], len(rows), f"predict {model.card['name']}")):
        start = time.perf_counter()
        try:
            photo = decode(root / path, model.recipe.decode_side)
        except UnreadableImage as error:
            reasons[i] = str(error)
            continue
        decoded = time.perf_counter()
        ready = views(photo, model.recipe, path)
        prepared = time.perf_counter()
        logits[i] = _averaged(model.logits(ready))
        times[i] = np.diff([start, decoded, prepared, time.perf_counter()]) * 1000
    table = rows[["image_path", "species", "split"]].reset_index(drop=True)
    table = table.assign(**dict(zip(TIMES, times.T, strict=True)), reason=reasons)
    return Predictions(table, logits, model.card, data_hash)


def _averaged(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    one: NDArray[np.float32] = logits[0]
    several: NDArray[np.float32] = np.log(np.maximum(probabilities(logits).mean(axis=0), 1e-30)).astype(np.float32)
    return one if len(logits) == 1 else several


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Write a table whose metadata holds the model's card and the manifest's hash."""
    table = pa.Table.from_pandas(predictions.rows, preserve_index=False)
    flat = pa.array(predictions.logits.ravel())
    table = table.append_column("logits", pa.FixedSizeListArray.from_arrays(flat, predictions.logits.shape[1]))
    metadata = {"card": predictions.card, "data_hash": predictions.data_hash}
    write_arrow(path, table, metadata)


def load_predictions(path: Path) -> Predictions:
    """Read a table back; its absence says which command makes it."""
    if not path.is_file():
        raise DataError(f"no predictions at {path}; run eval.py with the same --config first")
    with read_arrow(path, "is no table of predictions of this project; delete it, run eval.py again") as (
        file,
        metadata,
    ):
        table = file.read()
        card, data_hash = metadata["card"], metadata["data_hash"]
        logits = np.asarray(table.column("logits").combine_chunks().flatten())
        logits = logits.reshape(table.num_rows, len(card["labels"]))
    rows = table.drop_columns(["logits"]).to_pandas()
    wrong = (rows["reason"] == "").to_numpy() & ~np.isfinite(logits).all(axis=1)
    if wrong.any():
        raise DataError(
            f"{path} holds logits that are not finite, first of {rows['image_path'][wrong.argmax()]}; delete it and run "
            "eval.py again, and train the model anew if they come back"
        )
    return Predictions(rows, logits, card, data_hash)


def stage_names(config: Config) -> list[str]:
    """Model folders of the cascade in order: route.stages, or the caches of cache.start_ranks (or windows), then main."""
    return config.route.stages or [*cache_names(config), "main"]


def asked_names(config: Config) -> list[str]:
    """Models whose predictions the cascade needs: its stages, and the reference of its promise."""
    return list(dict.fromkeys([*stage_names(config), config.route.reference or stage_names(config)[-1]]))


def model_file(config: Config, name: str, precision: str) -> Path:
    """The exported file of a model; its absence says which command makes it."""
    path = config.models / name / FILES[precision]
    if not path.is_file():
        raise ModelError(f"no exported model at {path}; run train.py and quantize.py with the same --config first")
    return path


def predictions_file(config: Config, name: str, precision: str, splits: Sequence[str] = EVALUATED) -> Path:
    """Path of a model's predictions."""
    part = "" if splits == EVALUATED else f".{'_'.join(splits)}"
    return config.output / "predictions" / f"{name}{'' if precision == 'fp32' else '.int8'}{part}.parquet"


def predictions_stamp(target: Path, model: str, data: str) -> Stamp:
    """The stamp of a table of predictions: SHA-256 of the model file, and the manifest's hash."""
    return Stamp(target.parent / ".stamps" / f"{target.stem}.json", {"model": model, "data": data}, [target])


def predict_stages(
    config: Config, manifest: Manifest, precision: str, splits: Sequence[str] = EVALUATED
) -> list[Predictions]:
    """Predictions of all stages of the cascade on val and test; stored ones of the same files are reused.

    Those of route.reference are made and stored with them.
    """
    rows = manifest.rows[manifest.rows["split"].isin(splits)]
    found = []
    for name in asked_names(config):
        source, target = model_file(config, name, precision), predictions_file(config, name, precision, splits)
        _once(target, source, manifest, partial(_predict_one, manifest, rows, source, target))
        found.append(load_predictions(target))
        _check_name(found[-1].card, source)
    check_same_photos(found)
    return found[: len(stage_names(config))]


def predict_file(source: Path, manifest: Manifest, split: str, target: Path) -> Predictions:
    """Predictions of any exported model of this project, also of another data set's, on one split."""
    model, rows = Model(source, threads=1), manifest.part(split)
    _once(
        target, source, manifest, lambda: save_predictions(target, predict(model, manifest.root, rows, manifest.hash))
    )
    return load_predictions(target)


def _once(target: Path, source: Path, manifest: Manifest, work: Callable[[], None]) -> None:
    """Predict, unless stored predictions of the same model file and data exist."""
    run_once(f"predict   {target.stem}", predictions_stamp(target, sha256(source), manifest.hash), False, work)


def _predict_one(manifest: Manifest, rows: pd.DataFrame, source: Path, target: Path) -> None:
    model = Model(source, threads=1)
    _check_name(model.card, source)
    manifest.check_trained_on(model.card["data_hash"], str(source))
    save_predictions(target, predict(model, manifest.root, rows, manifest.hash))
    log.info("predict   %s: %d photos", target.stem, len(rows))


def _check_name(card: dict[str, Any], source: Path) -> None:
    """A model goes by the name of its folder, so a folder that was renamed or copied is refused."""
    if card["name"] != source.parent.name:
        raise ModelError(
            f"{source} is the model {card['name']}, not {source.parent.name}: the folder was renamed or copied; rename it "
            f"to {card['name']}, or delete it where it is a copy"
        )


def check_same_photos(tables: Sequence[Predictions]) -> None:
    """Refuse to join predictions of different photos, decodings or manifests."""
    first = tables[0]
    for table in tables[1:]:
        sides = [t.card["recipe"]["decode_side"] for t in (first, table)]
        if sides[0] != sides[1]:
            raise LabelSpaceError(
                f"the recipes of {first.name} and {table.name} disagree on decode_side ({sides[0]}, {sides[1]}); a photo "
                "is decoded only once, so train both with the same one"
            )
        if table.data_hash != first.data_hash or not table.rows["image_path"].equals(first.rows["image_path"]):
            raise LabelSpaceError(
                f"the predictions of {first.name} and {table.name} are of different manifests "
                f"({first.data_hash}, {table.data_hash}); run eval.py again"
            )
