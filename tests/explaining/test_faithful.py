"""Scores of maps: a map of the truth wins against chance, and what asks no network knows nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from toy import RECIPE, Experiment

from explaining.conftest import SIZE, Red, blob, subject
from pipeline.errors import ModelError
from pipeline.explaining import faithful
from pipeline.explaining.faithful import STEPS, check, controls, score, series, shuffle, summary
from pipeline.explaining.methods import relevance
from pipeline.explaining.network import readable
from pipeline.models.registry import build

PHOTO = blob(4, 4)


def test_the_true_map_is_better_than_chance_and_its_opposite_is_worse() -> None:
    asked = subject(Red())
    truth = np.zeros((SIZE, SIZE), np.float32)
    truth[4:12, 4:12] = 1
    by_truth, by_chance, by_opposite = (
        score(asked, PHOTO, 0, plane, None, seed=0) for plane in (truth, controls(SIZE, 0)["random"], 1 - truth)
    )
    assert by_truth["deletion"] < by_chance["deletion"] < by_opposite["deletion"]
    assert by_truth["insertion"] > by_chance["insertion"] > by_opposite["insertion"]


def test_a_series_goes_from_one_picture_to_the_other_in_equal_steps() -> None:
    upper, lower = np.ones((SIZE, SIZE, 3), np.uint8), np.zeros((SIZE, SIZE, 3), np.uint8)
    order = np.random.default_rng(0).permutation(SIZE * SIZE)
    found = series(upper, lower, order)
    assert found.shape == (STEPS + 1, SIZE, SIZE, 3)
    assert found[0].max() == 0 and found[-1].min() == 1
    assert np.diff(found[..., 0].sum((1, 2), dtype=int)) == pytest.approx(SIZE * SIZE / STEPS, abs=1)
    assert found[1].reshape(-1, 3)[order[0]].tolist() == [1, 1, 1]


def test_likeness_is_1_for_the_same_map_and_near_0_for_a_shuffled_network() -> None:
    asked = subject(Red())
    plane = relevance(asked.model, PHOTO, 0, "gradcam", 0)
    assert score(asked, PHOTO, 0, plane, plane, 0)["likeness"] == pytest.approx(1)
    assert score(asked, PHOTO, 0, plane, np.zeros_like(plane), 0)["likeness"] == 0


def test_shuffling_moves_every_weight_and_loses_none() -> None:
    model = readable(build("test_resnet", 3).eval(), RECIPE)
    shuffled = shuffle(model, seed=0)
    ours, theirs = model.network.conv1[0].weight, shuffled.network.conv1[0].weight
    assert not torch.equal(ours, theirs)
    assert torch.equal(ours.flatten().sort().values, theirs.flatten().sort().values)


def test_the_gain_is_paired_with_the_random_map() -> None:
    values = {"random": [(0.5, 0.5), (0.2, 0.4)], "good": [(0.3, 0.9), (0.1, 0.8)]}  # deletion, insertion of two photos
    scores = pd.DataFrame(
        [
            {"photo": i, "map": name, "deletion": d, "insertion": n, "likeness": np.nan}
            for name, pairs in values.items()
            for i, (d, n) in enumerate(pairs)
        ]
    )
    table = summary(scores, "main", seed=0).set_index("map")
    assert table.loc["random", "gain"] == 0
    assert table.loc["good", "gain"] == pytest.approx(((0.6 - 0.0) + (0.7 - 0.2)) / 2)
    assert table.loc["good", "gain_low_95"] == pytest.approx(0.5) and table.loc[
        "good", "gain_high_95"
    ] == pytest.approx(0.6)


def test_each_photo_has_a_random_map_of_its_own_and_no_refusal_ends_the_check(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method can refuse the network with shuffled weights alone."""
    drawn: list[bytes] = []

    def look(model: object, pixels: NDArray[np.uint8], *_: object) -> NDArray[np.float32]:
        if model is None:
            raise ModelError("it does not fit")
        return np.ones(pixels.shape[:2], np.float32)

    def note(subject: object, pixels: object, target: int, plane: NDArray[np.float32], told: object, seed: int) -> Any:
        drawn.append(plane.tobytes())
        return {"deletion": 0.5, "insertion": 0.5, "likeness": np.nan if told is None else 0.0}

    monkeypatch.setattr(faithful, "shuffle", lambda *_: None)
    monkeypatch.setattr(faithful, "relevance", look)
    monkeypatch.setattr(faithful, "score", note)
    config = experiment.config()
    assert check(config, ["main"], ["saliency"], photos=4) == 0
    assert len(drawn) == 12 and len(set(drawn)) == 4 + 1 + 1  # four random maps, one centre, one of the method
    table = pd.read_csv(config.output / "explanations" / "check.csv")
    assert table["likeness"].isna().all() and set(table["photos"]) == {4}


def test_the_check_writes_a_row_per_model_and_map(experiment: Experiment) -> None:
    (experiment.root / "regional" / "Insecta" / "Pieris rapæ" / "02.png").write_text("no picture any more")
    config = experiment.config()
    assert check(config, [], ["gradcam", "saliency"], photos=1000) == 1
    table = pd.read_csv(config.output / "explanations" / "check.csv")
    assert list(zip(table["model"], table["map"], strict=True)) == [
        (model, name) for model in ("cache_0.5_0", "main") for name in ("random", "centre", "gradcam", "saliency")
    ]
    assert set(table["photos"]) == {29}
    assert table.drop(columns=["likeness", "likeness_low_95", "likeness_high_95"]).notna().all(axis=None)
    for name in ("deletion", "insertion", "gain"):
        assert (table[f"{name}_low_95"] <= table[name]).all() and (table[name] <= table[f"{name}_high_95"]).all()


def test_a_check_that_is_there_is_not_made_again_but_tells_what_it_could_not_use(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    photos = experiment.root / "regional" / "Insecta"
    (photos / "Pieris rapæ" / "02.png").write_text("no picture any more")
    scored: list[object] = []
    monkeypatch.setattr(
        faithful,
        "score",
        lambda *given: (scored.append(given), {"deletion": 0.5, "insertion": 0.5, "likeness": 0.0})[1],
    )

    def checked(*methods: str) -> tuple[int, int]:
        """How much could not be used, and how many maps were scored."""
        scored.clear()
        return check(experiment.config(), ["main"], methods, photos=1000), len(scored)

    assert checked("saliency") == (1, 29 * 3)
    first = lines()
    assert checked("saliency") == (1, 0)
    assert lines() == ["explain   check.csv up to date", first[-1]]
    assert first[-1] == "explain   Insecta/Pieris rapæ/02.png: is no image in a format that Pillow knows"
    assert checked("gradcam") == (1, 29 * 3)
    shutil.copy(photos / "Pieris rapæ" / "03.png", photos / "Pieris rapæ" / "02.png")
    assert checked("gradcam") == (0, 30 * 3)
