"""Days unlike the test split, and photos unlike the test photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from toy import Experiment

from pipeline.edge.recipe import Recipe, preprocess
from pipeline.edge.rule import Rule
from pipeline.errors import DataError
from pipeline.evaluation import stress as module
from pipeline.evaluation.predict import Predictions
from pipeline.evaluation.routing import route, truth_ids
from pipeline.evaluation.simulation.scenarios import days, measure, take, test_sets
from pipeline.evaluation.stress import average_views, stress
from pipeline.evaluation.views import CORRUPTIONS, LEVELS, corrupted, nine_views

from .tables import table

test_sets.__test__ = False  # type: ignore[attr-defined]
SPECIES = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
RULES = [Rule(0.6), Rule()]
TRAIN = {"a": 400, "b": 50, "c": 5}


def cascade() -> list[Predictions]:
    rng = np.random.default_rng(0)
    truth = np.array(["abc".index(name) for name in SPECIES])
    main, cache = rng.normal(0, 1, (100, 3)), rng.normal(0, 1, (100, 2))
    main[np.arange(100), truth] += 2
    cache[np.arange(100), np.minimum(truth, 1)] += 2
    return [table(SPECIES, cache, ["a", "Other"], "cache_0.5_0"), table(SPECIES, main, ["a", "b", "c"])]


def test_days_of_parts_of_the_tail_and_bursts() -> None:
    found = days(SPECIES, TRAIN, 0)
    assert list(found) == ["head only", "middle only", "tail only", "burst of a", "burst of c"]
    assert found["head only"].tolist() == list(range(60))
    assert found["tail only"].tolist() == list(range(90, 100))
    burst = np.array(SPECIES)[found["burst of c"]]
    assert len(burst) == 1000
    assert (burst == "c").mean() == pytest.approx(0.8, abs=0.05)
    assert (burst == "a").sum() / (burst == "b").sum() == pytest.approx(2, abs=0.6)
    assert all(days(SPECIES, TRAIN, 0)[name].tolist() == photos.tolist() for name, photos in found.items())
    assert list(days(["a", "a", "b"], {"a": 30, "b": 30}, 0)) == ["middle only", "burst of a", "burst of b"]


def test_a_scenario_is_scored_on_its_photos_alone() -> None:
    tables = cascade()
    photos = days(SPECIES, TRAIN, 0)
    found = measure(photos, tables, RULES, 0).set_index("scenario")
    part = take(tables, photos["tail only"])
    routed = route(part, RULES)
    right = routed.answers == truth_ids(part[0].rows["species"].tolist(), routed.labels)
    row = found.loc["tail only"]
    assert (row["photos"], row["species"]) == (10, 1)
    assert row["cascade_accuracy"] == right.mean()
    assert row["communication_rate"] == (routed.stage == 1).mean()
    assert row["cascade_accuracy_low_95"] <= row["cascade_accuracy"] <= row["cascade_accuracy_high_95"]
    assert found.loc["burst of a", "draws"] == 1000
    assert found.loc["burst of a", "photos"] == len(set(photos["burst of a"].tolist())) <= 100


def test_a_burst_is_as_uncertain_as_the_photos_that_it_was_drawn_from() -> None:
    tables, photos = cascade(), days(SPECIES, TRAIN, 0)["burst of c"]
    row = measure({"burst": photos}, tables, RULES, 0).iloc[0]
    routed = route(tables, RULES)
    right = routed.answers == truth_ids(SPECIES, routed.labels)
    kept, counts = np.unique(photos, return_counts=True)
    rng, drawn = np.random.default_rng(1), []
    for _ in range(1000):  # a photo comes with all its draws, or not
        some = rng.integers(0, len(kept), len(kept))
        drawn.append((right[kept[some]] * counts[some]).sum() / counts[some].sum())
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert row["cascade_accuracy"] == right[photos].mean()
    assert row["cascade_accuracy_low_95"] == pytest.approx(low, abs=0.04)
    assert row["cascade_accuracy_high_95"] == pytest.approx(high, abs=0.04)
    assert high - low > 0.2  # of ten photos; a thousand would be ten times surer


def test_a_cascade_without_main_has_no_main_to_compare_with() -> None:
    found = measure({"all": np.arange(100)}, cascade()[:1], RULES[:1], 0)
    unanswered = (route(cascade()[:1], RULES[:1]).answers < 0).mean()
    assert found["communication_rate"].tolist() == [unanswered]
    assert "main_accuracy" not in found


def test_drawn_test_sets_are_found_by_their_photos(tmp_path: Path) -> None:
    pd.DataFrame({"image_path": ["2", "0"], "tier": [1, 2]}).to_parquet(tmp_path / "DI1.parquet")
    pd.DataFrame({"image_path": []}).to_parquet(tmp_path / "empty.parquet")
    found = test_sets(tmp_path, ["0", "1", "2"])
    assert {name: photos.tolist() for name, photos in found.items()} == {"DI1": [2, 0]}
    assert test_sets(tmp_path / "none", ["0"]) == {}
    with pytest.raises(DataError, match="DI1.parquet is of other photos than the predictions"):
        test_sets(tmp_path, ["x"])


# photos ----------------------------------------------------------------------------------------------------------------


def photo() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(60, 200, (48, 64, 3), dtype=np.uint8)).resize((256, 192))


@pytest.mark.parametrize("kind", sorted(CORRUPTIONS))
def test_corruptions_grow_with_their_level_and_are_seeded(kind: str) -> None:
    recipe = Recipe(size=64, crop=1.0)
    clean = preprocess(photo(), recipe).astype(float)
    seen = [corrupted(kind, level, 0)(photo(), recipe, "x.jpg") for level in LEVELS]
    assert all(view.shape == (1, 64, 64, 3) and view.dtype == np.uint8 for view in seen)
    distance = [abs(view[0] - clean).mean() for view in seen]
    assert distance[0] > 0
    assert distance == sorted(distance)
    assert (corrupted(kind, 3, 0)(photo(), recipe, "x.jpg") == seen[2]).all()
    another = (corrupted(kind, 3, 0)(photo(), recipe, "y.jpg") == seen[2]).all()
    assert another == (kind != "noise")


def test_nine_views_are_the_same_every_time() -> None:
    recipe = Recipe(size=64, crop=0.875)
    views = nine_views(photo(), recipe, "x.jpg")
    assert views.shape == (9, 64, 64, 3)
    assert (views == nine_views(photo(), recipe, "x.jpg")).all()
    assert (views[0] == preprocess(photo(), recipe)).all()
    assert (views[1] == views[0][:, ::-1]).all()
    assert len({view.tobytes() for view in views}) == 9


def test_stress_writes_a_row_per_level_and_goes_on_where_it_was_killed(
    measured: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = measured.copy(tmp_path / "root").config()
    monkeypatch.setattr(module, "LEVELS", (1, 5))
    made: list[Path] = []
    save = module.save_predictions

    def killed(path: Path, found: Predictions) -> None:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(path)
        save(path, found)

    monkeypatch.setattr(module, "save_predictions", killed)
    with pytest.raises(KeyboardInterrupt):
        stress(config, 12)
    monkeypatch.setattr(module, "save_predictions", lambda path, found: (made.append(path), save(path, found)))
    table_ = stress(config, 12)
    assert len(made) == len(set(made)) == 2 * len(CORRUPTIONS) * 2
    assert len(table_) == 3 * (1 + len(CORRUPTIONS) * 2)
    assert set(table_["photos"]) == {12}
    dark = table_[(table_["corruption"] == "brightness") & (table_["system"] == "main")].set_index("level")
    assert dark.loc[5, "accuracy"] < table_[table_["system"] == "main"]["accuracy"].iloc[0]
    assert (config.output / "evaluation" / "plots" / "stress.png").is_file()


def test_averaged_views_are_paired_with_one_view(measured: Experiment, tmp_path: Path) -> None:
    config = measured.copy(tmp_path / "root").config()
    result = average_views(config, 1000)
    assert result["photos"] == 30
    main = result["models"]["main"]
    difference = main["nine_views"]["accuracy"] - main["one_view"]["accuracy"]
    assert main["difference"]["mean"] == pytest.approx(difference)
    assert main["nine_views"]["accuracy"] > 0.8
