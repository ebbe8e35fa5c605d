"""A toy experiment without training: photos of one colour each, and tiny ONNX networks that answer the nearest colour."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from pipeline.config import Config, load_config
from pipeline.dataset.manifest import read_manifest, write_manifest
from pipeline.edge.cascade import FORMAT_VERSION
from pipeline.edge.labels import OTHER, label_hash
from pipeline.edge.model import METADATA_KEY
from pipeline.edge.recipe import Recipe
from pipeline.edge.rule import Rule
from pipeline.evaluation import metrics, scores
from pipeline.evaluation.run import evaluate
from pipeline.files import sha256
from pipeline.labels import LabelSpace

Colour = tuple[int, int, int]
COLOURS: dict[str, Colour] = {
    "Apis mellifera": (220, 30, 30),
    "Harmonia axyridis": (30, 30, 220),
    "Pieris rapæ": (235, 235, 235),
    "Vanessa atalanta": (230, 140, 20),
    "Zygène d'été": (30, 200, 40),
}
PHOTOS = {"Apis mellifera": 24, "Harmonia axyridis": 8, "Pieris rapæ": 8, "Vanessa atalanta": 16, "Zygène d'été": 4}
GREY: Colour = (120, 120, 120)
RECIPE = Recipe(size=32, crop=1.0)
Edit = Callable[[dict[str, Any]], dict[str, Any]]


def card(labels: Sequence[str], name: str = "main", recipe: Recipe = RECIPE, data_hash: str = "") -> dict[str, Any]:
    """What an exported file says of itself."""
    cache = OTHER in labels
    return {
        "format": 1, "name": name, "role": "cache" if cache else "main", "architecture": "toy", "arguments": {},
        "labels": list(labels), "recipe": recipe.to_dict(), "data_hash": data_hash, "seed": 0,
        "window": [0, len(labels) - 1] if cache else None, "threshold": 0.5 if cache else None, "pretrained": "none",
        "pruning": [], "metrics": {}, "training": {}, "weights_sha256": "", "label_hash": label_hash(labels),
        "recipe_hash": recipe.hash, "versions": {}, "precision": "fp32",
    }  # fmt: skip


def write_model(
    path: Path,
    colours: dict[str, Colour],
    *,
    name: str = "main",
    sharpness: float = 4.0,
    recipe: Recipe = RECIPE,
    data_hash: str = "",
    edit: Edit = lambda card: card,
) -> Path:
    """An ONNX file that answers the label whose colour is nearest to the photo's mean, surer as `sharpness` grows."""
    prototypes = np.array(list(colours.values()), np.float32) / 255
    weights = 2 * sharpness * prototypes.T / 255  # -|c - p|^2 = 2 c.p - |p|^2, but for what all labels share
    constants = {
        "axes": np.array([1, 2], np.int64),
        "weights": weights.astype(np.float32),
        "bias": (-sharpness * (prototypes**2).sum(1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["input"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gemm", ["mean", "weights", "bias"], ["output"]),
    ]
    shape_in = helper.make_tensor_value_info("input", TensorProto.UINT8, ["n", recipe.size, recipe.size, 3])
    shape_out = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", len(colours)])
    tensors = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, "toy", [shape_in], [shape_out], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    metadata = edit(card(list(colours), name, recipe, data_hash))
    helper.set_model_props(model, {METADATA_KEY: json.dumps(metadata, ensure_ascii=False)})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, path)
    return path


def cache_colours(*species: str) -> dict[str, Colour]:
    """Labels of a cache: these species, and a grey "Other" that is nearer than they are to all other colours."""
    return {**{name: COLOURS[name] for name in species}, OTHER: GREY}


def write_photo(path: Path, colour: Sequence[int], size: tuple[int, int] = (48, 40)) -> Path:
    """A photo of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    red, green, blue = (int(min(255, max(0, value))) for value in colour)
    Image.new("RGB", size, (red, green, blue)).save(path)
    return path


def write_cascade(folder: Path, stages: Sequence[tuple[str, dict[str, Colour], float]], **settings: Any) -> Path:
    """A folder with models and cascade.json as a bundle has them; stages: name, colours, threshold."""
    description = []
    for name, colours, threshold in stages:
        path = write_model(folder / f"{name}.onnx", colours, name=name, **settings)
        known = card(list(colours), name, settings.get("recipe", RECIPE))
        description.append(
            {"name": name, "file": path.name, "rule": asdict(Rule(threshold)), "sha256": sha256(path)}
            | {key: known[key] for key in ("role", "window", "labels", "label_hash", "recipe", "recipe_hash")}
        )
    text = json.dumps({"format_version": FORMAT_VERSION, "stages": description}, ensure_ascii=False)
    (folder / "cascade.json").write_text(text, encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Experiment:
    """Paths of a toy experiment, and the YAML that names them."""

    root: Path
    yaml: Path

    def config(self, *overrides: str) -> Config:
        return load_config(self.yaml, overrides)

    def copy(self, root: Path) -> Experiment:
        """The same experiment in another folder."""
        shutil.copytree(self.root, root)
        yaml = root / self.yaml.name
        yaml.write_text(self.yaml.read_text(encoding="utf-8").replace(str(self.root), str(root)), encoding="utf-8")
        return Experiment(root, yaml)


def write_experiment(root: Path, seed: int = 0, noise: float = 45.0) -> Experiment:
    """Photos, manifest and exported models (main, one cache) as the steps before evaluation leave them."""
    rng = np.random.default_rng(seed)
    rows = []
    for species, colour in COLOURS.items():
        for i in range(PHOTOS[species]):
            path = f"Insecta/{species}/{i:02}.png"
            file = write_photo(root / "regional" / path, np.array(colour) + rng.normal(0, noise, 3))
            rows.append((path, species, ("train", "val", "test", "test")[i % 4], sha256(file)))
    labels = LabelSpace(("Apis mellifera", OTHER))
    table = pd.DataFrame(rows, columns=["image_path", "species", "split", "sha256"])
    table = table.assign(group="Insecta", label_id=labels.ids(table["species"].tolist()), width=48, height=40)
    table = table.assign(duplicate_group=range(len(table)), ok=True, reason="")
    dataset = root / "output" / "toy" / "dataset"
    write_manifest(dataset, table, labels, seed)
    data_hash = read_manifest(dataset, root / "photos").hash
    models = {"cache_0.5_0": cache_colours("Apis mellifera", "Vanessa atalanta"), "main": COLOURS}
    for name, colours in models.items():
        folder = root / "models" / "toy" / name
        write_model(folder / "model.onnx", colours, name=name, data_hash=data_hash)
        write_model(folder / "model.int8.onnx", colours, name=name, data_hash=data_hash, sharpness=3.9, edit=_as_int8)
    yaml = root / "toy.yaml"
    settings = {
        "paths": {
            "src_dataset": str(root / "regional"),
            "dst_dataset": str(root / "regional"),
            "output_dir": str(root / "output"),
            "models_dir": str(root / "models"),
        },
        "global": {"included_classes": ["Insecta"]},
        "monte_carlo": {"runs": 50, "samples": 40},
        "route": {"max_drop": 0.3},  # 15 val photos promise no less
    }
    yaml.write_text(json.dumps(settings), encoding="utf-8")
    return Experiment(root, yaml)


def write_evaluated(root: Path) -> Experiment:
    """The same after evaluation, its intervals from few resamples."""
    experiment = write_experiment(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "RESAMPLES", 50)
        patch.setattr(metrics, "RESAMPLES", 50)
        evaluate(experiment.config())
    return experiment


def _as_int8(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "precision": "int8"}
