"""Test sets with a chosen imbalance: their shares, their draw, their files."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from pipeline.config import Config
from pipeline.dataset.manifest import read_manifest
from pipeline.dataset.stages import run_stages
from pipeline.dataset.test_sets import COLUMNS, DrawnSet, apportion, draw_test_sets
from pipeline.errors import ConfigError, DataError

SETS = {"DI1": [0.8], "DI2": [0.4, 0.4], "DI3": [0.3, 0.3, 0.2]}
MakeConfig = Callable[..., Config]


def table(counts: dict[str, int]) -> pd.DataFrame:
    rows = [(f"G/{name}/{i:04}.jpg", "G", name) for name, n in counts.items() for i in range(n)]
    return pd.DataFrame(rows, columns=["image_path", "group", "species"])


LONG_TAIL = {f"s{i:03}": max(1, 900 // (i + 1)) for i in range(144)}


def draw(counts: dict[str, int], window: int = 13, size: int = 1000, seed: int = 42) -> dict[str, DrawnSet]:
    return draw_test_sets(table(counts), list(counts), SETS, window, size, seed)


# how many -----------------------------------------------------------------------------------------------------------


def test_windows_get_their_shares_and_every_species_its_part() -> None:
    sets = draw(LONG_TAIL)
    for name, tiers in (("DI1", [800, 200]), ("DI2", [400, 400, 200]), ("DI3", [300, 300, 200, 200])):
        drawn = sets[name]
        assert drawn.rows["tier"].value_counts().sort_index().tolist() == tiers
        assert len(drawn.rows) == drawn.summary["photos"] == 1000
        assert drawn.rows["species"].nunique() == 144
        assert "note" not in drawn.summary
        assert not drawn.rows["image_path"].duplicated().any()


def test_distribution_tells_tier_rank_target_actual_available() -> None:
    drawn = draw(LONG_TAIL)["DI2"]
    assert list(drawn.distribution) == list(LONG_TAIL)
    for rank, (name, told) in enumerate(drawn.distribution.items(), 1):
        assert told["rank"] == rank
        assert told["tier"] == (1 if rank <= 13 else 2 if rank <= 26 else 3)
        assert told["available"] == LONG_TAIL[name]
        assert 1 <= told["target"] == told["actual"] == (drawn.rows["species"] == name).sum() <= told["available"]


def test_within_a_window_photos_go_by_proportion() -> None:
    drawn = draw({"a": 600, "b": 300, "c": 100, "rest": 500}, window=3, size=100)["DI1"]
    assert [told["target"] for told in drawn.distribution.values()] == [48, 24, 8, 20]


def test_a_set_that_cannot_be_filled_shrinks_and_keeps_its_shares() -> None:
    drawn = draw({"a": 600, "b": 90, "c": 30}, window=1, size=1000)["DI2"]
    assert drawn.rows["tier"].value_counts().sort_index().tolist() == [60, 60, 30]
    assert drawn.summary["note"] == "tier 3 of 3 has only 30 test photos, and the shares are kept"


def test_a_set_without_species_behind_its_windows_is_empty_and_says_so() -> None:
    drawn = draw({"a": 6, "b": 5}, window=13)["DI1"]
    assert list(drawn.rows.columns) == COLUMNS
    assert drawn.rows.empty
    assert drawn.summary["note"] == "tier 2 of 2 has only 0 test photos, and the shares are kept"


def test_shares_that_sum_to_one_leave_the_species_behind_out() -> None:
    drawn = draw_test_sets(table({"a": 50, "b": 30, "c": 20}), ["a", "b", "c"], {"X": [0.5, 0.5]}, 1, 40, 0)["X"]
    assert {name: told["actual"] for name, told in drawn.distribution.items()} == {"a": 20, "b": 20, "c": 0}
    assert drawn.distribution["c"]["tier"] == 0


def test_the_balanced_set_has_equally_many_of_each() -> None:
    drawn = draw({"a": 600, "b": 90, "c": 30, "none": 0}, size=60)["balanced"]
    assert drawn.rows["species"].value_counts().to_dict() == {"a": 20, "b": 20, "c": 20}
    scarce = draw({"a": 600, "b": 90, "c": 3}, size=60)["balanced"]
    assert scarce.rows["species"].value_counts().to_dict() == {"a": 3, "b": 3, "c": 3}
    assert scarce.summary["note"] == "c has only 3 test photos"
    assert draw({"a": 5, "b": 5}, size=1)["balanced"].summary["note"] == "2 species do not fit into 1 photos"


@pytest.mark.parametrize("seats", [0, 1, 5, 117, 118, 119, 200, 453])
def test_seats_sum_up_and_none_gets_more_than_it_has(seats: int) -> None:
    weights = np.array([90, 60, 40, 20, 10, *[3] * 60, *[1] * 53, 0])
    given = apportion(weights, seats)
    assert given.sum() == seats
    assert (given <= weights).all()
    if seats >= 118:
        assert (given[:-1] >= 1).all()
    assert given[-1] == 0
    assert (np.diff(given[:5]) <= 0).all()


def test_seats_go_to_the_largest_remainders() -> None:
    assert apportion(np.array([5, 3, 2]), 4).tolist() == [2, 1, 1]
    assert apportion(np.array([1, 1, 1]), 2).tolist() == [1, 1, 0]
    assert apportion(np.array([0.3, 0.3, 0.2, 0.2]), 1000).tolist() == [300, 300, 200, 200]


# which --------------------------------------------------------------------------------------------------------------


def test_the_draw_depends_on_the_seed_and_not_on_the_order() -> None:
    test = table(LONG_TAIL)
    first, again = (draw_test_sets(rows, list(LONG_TAIL), SETS, 13, 500, 1) for rows in (test, test.sample(frac=1)))
    other = draw_test_sets(test, list(LONG_TAIL), SETS, 13, 500, 2)
    for name in ("balanced", *SETS):
        pd.testing.assert_frame_equal(first[name].rows, again[name].rows)
        assert set(first[name].rows["image_path"]) <= set(test["image_path"])
    assert first["DI1"].rows["image_path"].tolist() != other["DI1"].rows["image_path"].tolist()


def test_an_empty_test_split_gives_empty_sets_that_say_so() -> None:
    sets = draw({"a": 0, "b": 0})
    assert all(drawn.rows.empty and list(drawn.rows.columns) == COLUMNS for drawn in sets.values())
    assert sets["balanced"].summary["note"].startswith("the test split is empty; lower train_val_split.train_size")
    assert sets["DI1"].summary["note"] == "tier 1 of 2 has only 0 test photos, and the shares are kept"


def test_a_species_without_rank_is_named() -> None:
    with pytest.raises(DataError, match="1 species of the test split have no rank, e.g. 'b'"):
        draw_test_sets(table({"a": 1, "b": 1}), ["a"], SETS, 1, 10, 0)


# the stage ----------------------------------------------------------------------------------------------------------

TINY = ("train_val_split.train_size=0.4", "test_sets.window=2", "test_sets.size=6")


def tables(config: Config) -> dict[str, pd.DataFrame]:
    folder = config.dataset_dir / "test_sets"
    return {path.stem: pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))}


def test_the_stage_writes_tables_of_test_photos(make_config: MakeConfig) -> None:
    config = make_config(*TINY)
    run_stages(config, until="manifest")
    run_stages(config, only="test_sets")
    made = tables(config)
    assert set(made) == {"balanced", "DI1", "DI2", "DI3"}
    test = set(read_manifest(config.dataset_dir, config.paths.dst_dataset).part("test")["image_path"])
    for rows in made.values():
        assert set(rows["image_path"]) <= test
    folder = config.dataset_dir / "test_sets"
    summary = json.loads((folder / "test_sets_summary.json").read_text())
    assert {name: told["photos"] for name, told in summary.items()} == {name: len(rows) for name, rows in made.items()}
    info = json.loads((folder / "distribution_info.json").read_text())["DI1"]
    assert set(info["Apis mellifera"]) == {"tier", "rank", "target", "actual", "available"}
    assert not [path for path in folder.iterdir() if path.is_dir()]


@pytest.mark.parametrize("mode", ["hardlink", "symlink", "copy"])
def test_export_makes_class_folders_that_are_kept_right(make_config: MakeConfig, mode: str) -> None:
    config = make_config(*TINY, "test_sets.export=true", f"dataset.copy_mode={mode}")
    run_stages(config, until="manifest")
    run_stages(config, only="test_sets")
    folder = config.dataset_dir / "test_sets"
    test = read_manifest(config.dataset_dir, config.paths.dst_dataset).part("test")
    assert len(list(folder.glob("test/*/*"))) == len(test)
    for name, rows in tables(config).items():
        assert len(list(folder.glob(f"{name}/*/*"))) == len(rows)
    first = test[test["species"] == "Apis mellifera"]["image_path"].min()
    exported = folder / "test" / "Apis mellifera" / "Apis mellifera_0001.jpg"
    assert exported.read_bytes() == (config.paths.dst_dataset / first).read_bytes()
    assert exported.is_symlink() == (mode == "symlink")
    exported.unlink()
    (folder / "test" / "Apis mellifera" / "Apis mellifera_0999.jpg").write_text("of an earlier draw")
    run_stages(config, only="test_sets")
    assert exported.is_file()
    assert len(list(folder.glob("test/*/*"))) == len(test)
    run_stages(make_config(*TINY, f"dataset.copy_mode={mode}", "test_sets.sets={DI2: [0.5]}"), only="test_sets")
    assert not (folder / "test").exists()
    assert set(tables(config)) == {"balanced", "DI2"}


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ("{DI1: [0.8, 0.3]}", "sum to 1 at most"),
        ("{DI1: []}", "must be above 0"),
        ("{DI1: [0]}", "must be above 0"),
        ("{balanced: [0.5]}", "neither balanced nor test"),
        ("{../x: [0.5]}", "is no name for a set"),
    ],
)
def test_wrong_sets_are_refused(make_config: MakeConfig, sets: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(f"test_sets.sets={sets}")
