"""Table of pruned models: cost and accuracy of each, beside the unpruned model."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.compression.cost import cost
from pipeline.compression.export import export
from pipeline.compression.run import BATCH, load_photos, trained_models
from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.manifest import Manifest
from pipeline.dataset.verify import readable
from pipeline.edge.model import Model
from pipeline.files import Stamp, read_json, run_once, write_csv, write_json
from pipeline.macro import macro_f1
from pipeline.models.checkpoint import WEIGHTS, ModelCard, load_model, read_card
from pipeline.models.deployable import Deployable

WARM_UP, RUNS = 5, 50
FIGURES = 2  # raised where a figure of cost.json is defined anew


def table(config: Config, manifest: Manifest, failed: Sequence[dict[str, Any]] = ()) -> pd.DataFrame:
    """Figures of all pruned models of the experiment and of their unpruned ones; pruning.csv, pruning.json, log.

    failed: rows of models that could not be made; they come last.
    """
    cards = [read_card(folder) for folder in trained_models(config)]
    origins = {card.pruning[0]["unpruned"] for card in cards if card.pruning}
    cards = sorted(
        (card for card in cards if card.pruning or card.name in origins),
        key=lambda card: (card.pruning[0]["unpruned"] if card.pruning else card.name, len(card.name)),
    )
    ms = times(config, cards)
    rows = [_row(card) | figures(manifest, config.models / card.name) | {"ms": ms[card.name]} for card in cards]
    found = pd.DataFrame([*rows, *failed])
    write_csv(config.output / "pruning.csv", found)
    write_json(
        config.output / "pruning.json", {"experiment": config.experiment, "split": "val", "models": [*rows, *failed]}
    )
    for row in rows:
        log.info(
            "  %-32s %7.1f M MACs, %6.2f M parameters, peak %6.0f kB (int8 %5.0f kB), %6.2f MB, %6.2f ms, "
            "val accuracy %.4f, macro F1 %.4f",
            row["model"], row["macs"] / 1e6, row["parameters"] / 1e6, row["peak_bytes"] / 1e3, row["peak_elements"] / 1e3,
            row["weights_bytes"] / 1e6, row["ms"], row["val_accuracy"], row["val_macro_f1"],
        )  # fmt: skip
    log.info("prune     table: %s", config.output / "pruning.csv")
    return found


def _row(card: ModelCard) -> dict[str, Any]:
    last: dict[str, Any] = card.pruning[-1] if card.pruning else {}
    settings = last.get("settings", {})
    return {
        "model": card.name,
        "unpruned": card.pruning[0]["unpruned"] if card.pruning else card.name,
        "aim": settings.get("what"),
        "value": settings.get("value"),
        "importance": settings.get("importance"),
        "scope": settings.get("scope"),
        "ratio": last.get("ratio"),
        "retrained_epochs": card.training.get("epoch") if card.pruning else None,
    }


def times(config: Config, cards: Sequence[ModelCard]) -> dict[str, float]:
    """ms per photo of each model, measured in one run; stored in pruning_ms.json until a model changes."""
    target = config.output / "pruning_ms.json"
    stamp = Stamp(
        config.output / ".stamps" / target.name,
        {"models": {card.name: card.weights_sha256 for card in cards}},
        [target],
    )

    def measure() -> None:
        found = milliseconds(load_model(config.models / card.name) for card in cards)
        write_json(target, dict(zip((card.name for card in cards), found, strict=True)))

    run_once(f"measure   ms of {len(cards)} models", stamp, False, measure)
    kept: dict[str, float] = read_json(target, "times of the pruned models")
    return kept


def figures(manifest: Manifest, folder: Path) -> dict[str, Any]:
    """Cost of a model and its figures on val, stored in cost.json until weights or photos change."""
    card, target = read_card(folder), folder / "cost.json"
    inputs = {"weights": card.weights_sha256, "manifest": manifest.hash, "figures": FIGURES}
    stamp = Stamp(folder / ".stamps" / "cost.json", inputs, [target])
    run_once(f"measure   {card.name}", stamp, False, lambda: write_json(target, _figures(manifest, folder)))
    found: dict[str, Any] = read_json(target, "cost of a model")
    return found


def _figures(manifest: Manifest, folder: Path) -> dict[str, Any]:
    network, card = load_model(folder)
    rows = readable(manifest.root, manifest.part("val"))
    answers = []
    for start in range(0, len(rows), BATCH):
        photos = torch.from_numpy(load_photos(manifest, rows.iloc[start : start + BATCH], card.recipe))
        with torch.inference_mode():
            answers.append(Deployable(network, card.recipe)(photos).argmax(1).numpy())
    found, truth = np.concatenate(answers), card.labels.ids(rows["species"].tolist())
    return {
        **asdict(cost(network, card.recipe.size)),
        "weights_bytes": (folder / WEIGHTS).stat().st_size,
        "val_accuracy": float((found == truth).mean()),
        "val_macro_f1": macro_f1(truth, found, len(card.labels)),
    }


def milliseconds(models: Iterable[tuple[nn.Module, ModelCard]]) -> list[float]:
    """Median time of one photo in onnxruntime on one thread, of RUNS calls after WARM_UP.

    Every round asks all models once, each time in another order, so that what else the machine does hits all alike.
    """
    rng = np.random.default_rng(0)
    ready: list[tuple[Model, NDArray[np.uint8]]] = []
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "model.onnx"
        for network, card in models:
            photo = rng.integers(0, 256, (1, card.recipe.size, card.recipe.size, 3), np.uint8)
            export(network, card, file, photo, float("inf"))
            ready.append((Model(file, threads=1), photo))
    spent = np.zeros((WARM_UP + RUNS, len(ready)))
    for turn in spent:
        for i in rng.permutation(len(ready)):
            model, photo = ready[i]
            start = time.perf_counter()
            model.logits(photo)
            turn[i] = 1000 * (time.perf_counter() - start)
    median: list[float] = np.median(spent[WARM_UP:], axis=0).tolist()
    return median
