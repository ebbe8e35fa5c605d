#!/usr/bin/env python3
"""What each ingredient of a training gives: every arm is trained with three seeds and judged on test; mean and spread."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline.config import Config, override
from pipeline.console import configuration, parser, run
from pipeline.dataset.manifest import learnt_manifest
from pipeline.files import read_json, safe_name, write_json
from pipeline.models.checkpoint import finished_model, versions
from pipeline.models.deployable import Deployable
from pipeline.training.data import EpochOrder, Photos, loader
from pipeline.training.epoch import evaluate
from pipeline.training.loop import METRICS, VAL_BATCH
from pipeline.training.run import train_role

RESULTS = Path(__file__).parent / "results" / "ingredients.json"
EXAMPLES = """  ingredients.py --config configs/haute_garonne_insecta.yaml --weights mcunet_in2_backbone.safetensors
  ingredients.py ... --only "cache of 7*"    these arms alone; those judged before stay in the table
The teacher is the main model of that configuration (train.py main); finished trainings are skipped."""
SEEDS = (1, 2, 3)
FIGURES = ("acc", "macro_f1", "f1_head", "f1_middle", "f1_tail")
Settings = Mapping[str, Any]
SHORT: Settings = {"epochs": 1, "batch_size": 32, "lr": 1e-3, "warmup_epochs": 0.1, "ema": 0.0, "workers": 1}
FIRST_STAGES = ["conv_stem", "bn1", "blocks.0.", "blocks.1.", "blocks.2."]
MAIN: Settings = {**SHORT, "freeze.frozen": FIRST_STAGES}  # a third less time on a CPU
VARIED: Mapping[str, Settings] = {  # each changes one thing of "main lite0, 160 px"
    "class weights 1/sqrt(n)": {"class_weights": "sqrt_inverse"},
    "square-root sampler": {"sampler": "square_root"},
    "balanced sampler": {"sampler": "balanced"},
    "focal loss": {"loss.name": "focal"},
    "logit adjustment": {"loss.name": "logit_adjustment"},
    "light augmentation": {"augment": "light"},
    "strong augmentation": {"augment": "strong"},
    "mixup and cutmix": {"mix.mixup": 0.25, "mix.cutmix": 0.25},
}


def arms(weights: Path | None, teacher: str) -> dict[str, tuple[str, Settings]]:
    """Role and settings of each arm by its name."""
    found: dict[str, tuple[str, Settings]] = {}
    for network in ("lite0", "lite2"):
        for size in (160, 224):
            settings = {**MAIN, "model": f"tf_efficientnet_{network}", "recipe.size": size}
            found[f"main {network}, {size} px"] = "main", settings
    for what, changes in VARIED.items():
        found[f"main lite0, 160 px, {what}"] = "main", {**found["main lite0, 160 px"][1], **changes}
    for species in (7, 13, 51):
        scratch: Settings = {**SHORT, "species": species, "distill.teacher": None}
        named = f"cache of {species}"
        found[f"{named}, from scratch"] = "cache", scratch
        if weights:
            pretrained = {**scratch, "pretrained": weights}
            found[f"{named}, ImageNet weights"] = "cache", pretrained
            found[f"{named}, ImageNet weights, distilled"] = "cache", {**pretrained, "distill.teacher": teacher}
    return found


def work(arguments: argparse.Namespace) -> None:
    config = configuration(arguments)
    teacher = f"{config.experiment}/main"
    known = read_json(arguments.out, "earlier figures")["arms"] if arguments.out.is_file() else {}
    manifest = learnt_manifest(config)
    for name, (role, settings) in arms(arguments.weights, teacher).items():
        if not any(fnmatch(name, pattern) for pattern in arguments.only):
            continue
        seeds = {str(seed): judged(member(config, name, role, settings, seed), role) for seed in arguments.seeds}
        told = {key: value.name if isinstance(value, Path) else value for key, value in settings.items()}
        known[name] = {"settings": told, "seeds": known.get(name, {}).get("seeds", {}) | seeds}
        write_json(arguments.out, {"versions": versions(), "manifest": manifest.hash, "arms": known})
        print(f"{name}: {seeds}", flush=True)
    print(table(known))


def member(config: Config, name: str, role: str, settings: Settings, seed: int) -> Config:
    """An experiment of its own, on the data set of the base."""
    own = {
        f"{role}.{key}": str(value) if isinstance(value, Path) else value
        for key, value in {**settings, "seed": seed}.items()
    }
    return override(
        config,
        {"experiment": safe_name(f"ingredients {name} {seed}"), "paths.dataset_dir": str(config.dataset_dir), **own},
    )


def judged(config: Config, role: str) -> dict[str, Any]:
    """Train, and judge on test; figures without intervals, the seconds of training, and the weights' hash."""
    (folder,) = train_role(config, role)
    network, card = finished_model(folder)
    manifest = learnt_manifest(config)
    test, of_train = manifest.part("test"), card.labels.ids(manifest.part("train")["species"].tolist())
    paths = [manifest.root / path for path in test["image_path"]]
    photos = Photos(paths, card.labels.ids(test["species"].tolist()), card.recipe, "none", card.seed)
    batches = loader(photos, EpochOrder(len(photos), card.seed, False), VAL_BATCH, 0)
    model, counts = Deployable(network, card.recipe), np.bincount(of_train, minlength=len(card.labels))
    figures, _ = evaluate(model, batches, len(photos), card.labels, counts, torch.device("cpu"))
    kept = {key: round(figures[f"val_{key}"], 4) for key in FIGURES if f"val_{key}" in figures}
    seconds = pd.read_csv(folder / METRICS)["seconds"].sum()
    return kept | {"seconds": round(float(seconds)), "sha256": card.weights_sha256}


def table(found: Mapping[str, Any]) -> str:
    """Markdown: mean and standard deviation over the seeds, and the median minutes of a training."""
    lines = ["| | seeds | accuracy | macro F1 | F1 of head / middle / tail | minutes |", "| --- " * 6 + "|"]
    for name, arm in found.items():
        rows = pd.DataFrame(arm["seeds"].values())
        parts = " / ".join(f"{rows[key].mean():.3f}" for key in FIGURES[2:] if key in rows)
        figures = f"{spread(rows['acc'])} | {spread(rows['macro_f1'])} | {parts} | {rows['seconds'].median() / 60:.1f}"
        lines.append(f"| {name} | {len(rows)} | {figures} |")
    return "\n".join(lines)


def spread(values: pd.Series[float]) -> str:
    """Mean ± sample standard deviation."""
    return f"{values.mean():.4f} ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else f"{values.mean():.4f}"


if __name__ == "__main__":
    options = parser(__doc__ or "", EXAMPLES)
    options.add_argument("--weights", type=Path, help="pretrained mcunet-in2 weights; without them from scratch alone")
    options.add_argument(
        "--only", nargs="+", default=["*"], help="arms whose name matches one of these, e.g. 'cache of 7*'"
    )
    options.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    options.add_argument("--out", type=Path, default=RESULTS)
    sys.exit(run(work, options.parse_args()))
