"""Photos placed by main's features."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from toy import COLOURS, RECIPE, Experiment, write_model

from pipeline.config import Config
from pipeline.dataset.manifest import read_manifest
from pipeline.edge.recipe import decode, preprocess
from pipeline.errors import DataError
from pipeline.evaluation.report.features import features, project
from pipeline.labels import LabelSpace
from pipeline.models.checkpoint import ModelCard, load_model, read_card, save_model
from pipeline.models.deployable import Deployable
from pipeline.models.registry import build


def test_what_main_sees_as_alike_lies_together() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), 30)
    vectors = (rng.normal(0, 0.3, (90, 3)) + 6 * np.eye(3)[truth]).astype(np.float32)
    found = project(vectors, 0)
    for name, places in found.items():
        assert places.shape == (90, 2)
        assert places.min() == 0
        assert places.max() == pytest.approx(1)
        centres = np.array([places[truth == k].mean(axis=0) for k in range(3)])
        nearest = np.linalg.norm(places[:, None] - centres, axis=2).argmin(axis=1)
        assert (nearest == truth).mean() > 0.95, name
    again = project(vectors, 0)
    assert list(found) == ["pca", "tsne", *(["umap"] if find_spec("umap") else [])]
    assert all((found[name] == again[name]).all() for name in found)


def with_weights(config: Config) -> None:
    """Weights for main, and its exported files made from them (so they say)."""
    folder = config.models / "main"
    data = read_manifest(config.dataset_dir, config.paths.dst_dataset).hash
    save_model(
        folder,
        build("test_resnet", len(COLOURS)),
        ModelCard("main", "main", "test_resnet", {}, LabelSpace(tuple(COLOURS)), RECIPE, data, 0),
    )
    weights = {"weights_sha256": read_card(folder).weights_sha256}
    for file, kind in (("model.onnx", "fp32"), ("model.int8.onnx", "int8")):
        said = {**weights, "precision": kind}
        write_model(folder / file, COLOURS, data_hash=data, edit=lambda card, said=said: {**card, **said})  # type: ignore[misc]


def test_weights_that_are_not_the_exported_ones_are_refused(measured: Experiment, tmp_path: Path) -> None:
    config = measured.copy(tmp_path / "root").config()
    with_weights(config)
    folder = config.models / "main"
    save_model(folder, build("test_resnet", len(COLOURS)), read_card(folder))
    with pytest.raises(DataError, match="main was trained on after its export; run quantize.py and eval.py"):
        features(config, 5)


def test_too_few_photos_for_a_map(measured: Experiment) -> None:
    for photos in (1, 2):
        with pytest.raises(DataError, match=f"takes 3 or more, not {photos}; give a larger number"):
            features(measured.config(), photos)
    rng = np.random.default_rng(0)
    assert all(np.isfinite(xy).all() for xy in project(rng.normal(size=(3, 16)).astype(np.float32), 0).values())


def test_the_page_holds_every_photo_and_fetches_nothing(
    measured: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(
        "pipeline.evaluation.report.features.find_spec", lambda name: None
    )  # as where it is not installed
    config = measured.copy(tmp_path / "root").config()
    with_weights(config)
    table = features(config, 20)
    assert len(table) == 20
    assert np.isfinite(table[["pca_x", "pca_y", "tsne_x", "tsne_y"]].to_numpy()).all()
    page = (config.output / "features.html").read_text(encoding="utf-8")
    assert page.count("<circle") == 2 * 20
    texts = json.loads(re.search(r"texts = (\[.*?\]), shown", page)[1])  # type: ignore[index]
    assert [text.split(",")[0] for text in texts] == table["species"].tolist()
    assert "features  no UMAP, which is one more package: pip install 'ommatidia[umap]'" in lines()
    written = pd.read_parquet(config.output / "evaluation" / "features.parquet")
    assert written["image_path"].tolist() == table["image_path"].tolist()
    network, card = load_model(config.models / "main")
    vectors = np.stack(written["vector"].tolist())
    model = Deployable(network, card.recipe)
    pixels = preprocess(decode(config.paths.dst_dataset / table["image_path"][0], card.recipe.decode_side), card.recipe)
    with torch.no_grad():
        answer = model(torch.from_numpy(pixels.copy())[None])[0]
        from_vector = network.get_classifier()(torch.from_numpy(vectors[0]))  # type: ignore[operator]
    np.testing.assert_allclose(from_vector, answer, rtol=1e-4, atol=1e-5)
    assert "http" not in page.replace("http-equiv", "")
