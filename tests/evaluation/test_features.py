"""Photos placed by main's logits."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from toy import Experiment

from pipeline.evaluation.features import features, project


def test_what_main_sees_as_alike_lies_together() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), 30)
    logits = (rng.normal(0, 0.3, (90, 3)) + 6 * np.eye(3)[truth] + rng.normal(0, 50, (90, 1))).astype(np.float32)
    found = project(logits, 0)
    for name, places in found.items():
        assert places.shape == (90, 2)
        assert places.min() == 0
        assert places.max() == pytest.approx(1)
        centres = np.array([places[truth == k].mean(axis=0) for k in range(3)])
        nearest = np.linalg.norm(places[:, None] - centres, axis=2).argmin(axis=1)
        assert (nearest == truth).mean() > 0.95, name
    again = project(logits, 0)
    assert list(found) == ["pca", "tsne", *(["umap"] if find_spec("umap") else [])]
    assert all((found[name] == again[name]).all() for name in found)


def test_the_page_holds_every_photo_and_fetches_nothing(
    measured: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr("pipeline.evaluation.features.find_spec", lambda name: None)  # as where it is not installed
    config = measured.copy(tmp_path / "root").config()
    table = features(config, 20)
    assert len(table) == 20
    assert np.isfinite(table[["pca_x", "pca_y", "tsne_x", "tsne_y"]].to_numpy()).all()
    page = (config.output / "features.html").read_text(encoding="utf-8")
    assert page.count("<circle") == 2 * 20
    texts = json.loads(re.search(r"texts = (\[.*?\]), shown", page)[1])  # type: ignore[index]
    assert [text.split(",")[0] for text in texts] == table["species"].tolist()
    assert "features  no UMAP, which is one more package: pip install 'ommatidia[umap]'" in lines()
    assert "http" not in page.replace("http-equiv", "")
