"""One split for all: by species, look-alikes together, by the seed and the photos' bytes alone."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest

from pipeline.dataset.splitting import keep_together, leaks, official_split, split
from pipeline.errors import DataError


def table(**species: list[int]) -> pd.DataFrame:
    """Rows of good photos: per species the sizes of its groups of look-alikes."""
    names = [
        (name, f"{name}{group}") for name, sizes in species.items() for group, n in enumerate(sizes) for _ in range(n)
    ]
    rows = pd.DataFrame(names, columns=["species", "group_name"])
    rows["sha256"] = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(len(rows))]
    rows["duplicate_group"] = pd.factorize(rows["group_name"])[0]
    rows["ok"] = True
    return rows


def counts(rows: pd.DataFrame, *shares: float, seed: int = 42) -> dict[str, int]:
    val, test = shares or (0.1, 0.2)
    found = split(rows, val, test, seed).value_counts()
    return {name: int(found.get(name, 0)) for name in ("train", "val", "test")}


def test_shares_are_met_within_each_species() -> None:
    rows = table(a=[1] * 100, b=[1] * 1000)
    assert counts(rows[rows["species"] == "a"]) == {"train": 70, "val": 10, "test": 20}
    assert counts(rows) == {"train": 770, "val": 110, "test": 220}


def test_shares_are_about_right_with_look_alikes() -> None:
    sizes = np.random.default_rng(0).integers(1, 6, 300).tolist()
    found = counts(table(a=sizes))
    total = sum(sizes)
    assert found["val"] == pytest.approx(0.1 * total, abs=3)
    assert found["test"] == pytest.approx(0.2 * total, abs=3)


@pytest.mark.parametrize(
    "sizes", [[1, 1, 1], [1, 1, 1, 1], [5, 5, 5], [20, 1, 1], [1, 1, 20], [9, 8, 7, 6], [2, 2, 2, 50]]
)
def test_species_with_three_groups_is_in_every_split(sizes: list[int]) -> None:
    for seed in range(8):
        assert min(counts(table(a=sizes), seed=seed).values()) > 0


@pytest.mark.parametrize("sizes", [[1], [1, 1], [30], [30, 30]])
def test_species_with_fewer_than_three_groups_is_all_in_train(sizes: list[int]) -> None:
    assert counts(table(a=sizes)) == {"train": sum(sizes), "val": 0, "test": 0}


def test_look_alikes_stay_together() -> None:
    rows = table(a=[3] * 50, b=[1] * 30)
    rows["split"] = split(rows, 0.1, 0.2, 42)
    assert leaks(rows) == 0
    assert (rows.groupby("duplicate_group")["split"].nunique() == 1).all()


def test_leaks_are_counted() -> None:
    rows = table(a=[2, 2, 1])
    rows["split"] = ["train", "val", "train", "train", ""]
    assert leaks(rows) == 1


def test_order_of_rows_does_not_matter() -> None:
    rows = table(a=[1] * 40 + [3] * 5, b=[1] * 25, c=[2, 1])
    rows.loc[rows["species"] == "c", "duplicate_group"] = 0  # a look-alike of a photo of species a
    first = split(rows, 0.1, 0.2, 42)
    for seed in range(5):
        shuffled = rows.sample(frac=1, random_state=seed)
        assert split(shuffled, 0.1, 0.2, 42).sort_index().equals(first)


def test_names_of_groups_and_other_species_do_not_matter() -> None:
    rows = table(a=[1] * 40, b=[1] * 25)
    first = split(rows, 0.1, 0.2, 42)
    renumbered = rows.assign(duplicate_group=rows["duplicate_group"].max() - rows["duplicate_group"])
    assert split(renumbered, 0.1, 0.2, 42).equals(first)
    alone = rows[rows["species"] == "b"]
    assert split(alone, 0.1, 0.2, 42).equals(first[alone.index])


def test_seed_changes_the_split_and_nothing_else_does() -> None:
    rows = table(a=[1] * 60)
    assert split(rows, 0.1, 0.2, 42).equals(split(rows, 0.1, 0.2, 42))
    assert not split(rows, 0.1, 0.2, 42).equals(split(rows, 0.1, 0.2, 43))
    assert counts(rows, seed=43) == counts(rows, seed=42)


def test_bad_photos_are_in_no_split_and_move_no_other() -> None:
    rows = table(a=[1] * 30)
    bad = pd.DataFrame({"species": "a", "sha256": "", "duplicate_group": -1, "ok": False}, index=[100, 101])
    found = split(pd.concat([bad, rows]), 0.1, 0.2, 42)
    assert found[[100, 101]].tolist() == ["", ""]
    assert found.drop([100, 101]).equals(split(rows, 0.1, 0.2, 42))


# published splits that can be asked for -----------------------------------------------------------------------------


def test_sixty_twenty_twenty_of_each_class_and_small_classes_in_train() -> None:
    rows = table(a=[1] * 60, b=[1] * 2)
    rows["split"] = split(rows, 0.2, 0.2, 42)
    assert rows[rows["species"] == "a"]["split"].value_counts().to_dict() == {"train": 36, "val": 12, "test": 12}
    assert set(rows[rows["species"] == "b"]["split"]) == {"train"}


def test_eighty_twenty_without_val() -> None:
    rows = table(a=[1] * 50, b=[1, 1], c=[1])
    rows["split"] = split(rows, 0, 0.2, 42)
    found = rows.groupby("species")["split"].value_counts().to_dict()
    assert found == {
        ("a", "train"): 40,
        ("a", "test"): 10,
        ("b", "train"): 1,
        ("b", "test"): 1,
        ("c", "train"): 1,
    }


# official parts -----------------------------------------------------------------------------------------------------


def official(rows: pd.DataFrame, *parts: str, val_share: float = 0.1) -> pd.DataFrame:
    rows = rows.assign(official=parts)
    rows["split"], rows["why"] = official_split(rows, val_share, 42)
    return rows


def test_three_official_parts_are_taken_as_they_are() -> None:
    rows = official(table(a=[1] * 3), "train", "val", "test")
    assert rows["split"].tolist() == ["train", "val", "test"]
    assert set(rows["why"]) == {""}


@pytest.mark.parametrize("name", ["val", "test"])
def test_lone_held_out_part_is_test_and_val_comes_out_of_train(name: str) -> None:
    rows = official(table(a=[1] * 60, b=[1] * 2), *["train"] * 50, *[name] * 10, "train", name)
    assert (rows["split"] == "test").tolist() == [part == name for part in rows["official"]]
    assert rows[rows["species"] == "a"]["split"].value_counts().to_dict() == {"train": 45, "test": 10, "val": 5}
    assert rows["split"].tolist()[-2:] == ["train", "test"]


def test_look_alikes_of_a_held_out_photo_are_left_out_of_the_other_parts() -> None:
    rows = official(table(a=[3, 2, 1, 1]), "train", "test", "val", "train", "val", "train", "test")
    assert rows["split"].tolist() == ["", "test", "", "", "val", "train", "test"]
    reason = "stays with photos of the official {} part (looks like one, or is of the same observation)"
    assert rows["why"].tolist() == [*(reason.format(p) if p else "" for p in ("test", "", "test", "val", "", "", ""))]
    assert leaks(rows) == 0


def test_bad_photos_bind_no_others() -> None:
    rows = table(a=[2, 1, 1])
    rows["ok"] = [True, False, True, True]
    rows["duplicate_group"] = rows["duplicate_group"].where(rows["ok"], -1)
    assert official(rows, "train", "test", "test", "val")["split"].tolist() == ["train", "", "test", "val"]


def test_no_official_part_says_so() -> None:
    with pytest.raises(DataError, match=r"the photos have no official split \(train_val_split\.official\)"):
        official(table(a=[1] * 3), "", "", "")


# observations -------------------------------------------------------------------------------------------------------


def test_observations_join_groups_and_unknown_ones_do_not() -> None:
    groups = np.array([0, 1, 2, 0, 3, -1, 4])
    seen = pd.Series(["x", "y", "", "y", "", "x", ""])
    assert keep_together(groups, seen).tolist() == [0, 0, 1, 0, 2, -1, 3]
    assert keep_together(groups, pd.Series([""] * 7)) is groups
