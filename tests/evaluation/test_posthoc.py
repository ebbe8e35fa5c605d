"""A full model's logits folded to a cache's labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pipeline.dataset.manifest import Manifest
from pipeline.edge.rule import probabilities
from pipeline.errors import LabelSpaceError
from pipeline.evaluation import charts
from pipeline.evaluation.posthoc import beside_trained, every_threshold, fold
from pipeline.labels import LabelSpace
from pipeline.sections.dataset import Labels

from .tables import table

NAMES = ["a", "b", "c", "d"]


def logits(n: int = 300, seed: int = 0) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.choice(4, n, p=[0.5, 0.3, 0.15, 0.05])
    found = rng.normal(0, 1, (n, 4))
    found[np.arange(n), truth] += 2
    return [NAMES[i] for i in truth], found.astype(np.float32)


def manifest() -> Manifest:
    species = [name for name, n in zip(NAMES, (50, 30, 15, 5), strict=True) for _ in range(n)]
    rows = pd.DataFrame({"image_path": map(str, range(100)), "group": "Insecta", "species": species, "ok": True})
    return Manifest(rows.assign(split="train"), Path(), LabelSpace(tuple(NAMES)), 0)


def test_other_gets_the_sum_of_the_probabilities_of_the_rest() -> None:
    _, given = logits()
    folded = probabilities(fold(given, NAMES, ["c", "a"]))
    whole = probabilities(given)
    np.testing.assert_allclose(folded[:, 0], whole[:, 2], atol=1e-6)
    np.testing.assert_allclose(folded[:, 1], whole[:, 0], atol=1e-6)
    np.testing.assert_allclose(folded[:, 2], whole[:, 1] + whole[:, 3], atol=1e-6)


def test_large_logits_do_not_overflow() -> None:
    given = np.array([[1e4, -1e4, 9e3, 0]], np.float32)
    assert np.isfinite(fold(given, NAMES, ["a"])).all()


def test_labels_that_do_not_fit() -> None:
    _, given = logits(5)
    with pytest.raises(LabelSpaceError, match="does not know 'z'"):
        fold(given, NAMES, ["a", "z"])
    with pytest.raises(LabelSpaceError, match='nothing is left for "Other"'):
        fold(given, NAMES, NAMES)


def test_every_threshold_has_its_row_and_agrees_with_scoring_by_hand() -> None:
    species, given = logits()
    found = every_threshold(Labels(), manifest(), table(species, given, NAMES)).set_index("labels")
    assert found.index.tolist() == [2, 3, 4]  # one, two, three species, and "Other"
    assert found["threshold"].tolist() == [0.5, 0.51, 0.81]
    folded = fold(given, NAMES, ["a", "b"]).argmax(axis=1)
    truth = np.array([min(NAMES.index(name), 2) for name in species])
    assert found.loc[3, "accuracy"] == pytest.approx((folded == truth).mean())
    assert found.loc[3, "hit_share"] == pytest.approx((folded != 2).mean())
    assert found.loc[3, "always_other_accuracy"] == pytest.approx((truth == 2).mean())


def test_every_threshold_goes_by_the_ranking_that_caches_are_trained_with(tmp_path: Path) -> None:
    (tmp_path / "seen.json").write_text('{"Insecta": {"a": 5, "b": 15, "c": 30, "d": 50}}')
    species, given = logits()
    found = every_threshold(Labels(weights=tmp_path / "seen.json"), manifest(), table(species, given, NAMES))
    folded, truth = fold(given, NAMES, ["d"]).argmax(axis=1), np.array([int(name != "d") for name in species])
    assert found["accuracy"][0] == pytest.approx((folded == truth).mean())


def test_a_trained_cache_beside_the_folded_model() -> None:
    species, given = logits()
    main = table(species, given, NAMES)
    cache = table(species, fold(given, NAMES, ["a", "b"]), ["a", "b", "Other"], "cache_0.5_0")
    row = beside_trained([cache], main, 0).iloc[0]
    assert row["accuracy"] == row["folded_accuracy"]
    assert row["folded_minus_trained_mean"] == 0
    worse = table(species, -cache.logits, ["a", "b", "Other"], "cache_0.5_0")
    row = beside_trained([worse], main, 0).iloc[0]
    assert row["folded_minus_trained_low_95"] > 0


def test_caches_of_later_ranks_are_no_points_on_the_lines_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    species, given = logits()
    main = table(species, given, NAMES)
    first, later = (table(species, fold(given, NAMES, kept), [*kept, "Other"], "x") for kept in (["a"], ["b", "c"]))
    later.card["window"] = [1, 2]
    trained = beside_trained([first, later], main, 0)
    assert trained["start_rank"].tolist() == [0, 1]
    shown: list[Figure] = []
    monkeypatch.setattr(charts, "save", lambda figure, path: shown.append(figure))
    charts.post_hoc(every_threshold(Labels(), manifest(), main), trained, tmp_path / "x.png")
    points = [line for line in shown[0].axes[0].lines if line.get_marker() == "o"]
    assert points
    assert {len(line.get_xdata()) for line in points} == {1}
