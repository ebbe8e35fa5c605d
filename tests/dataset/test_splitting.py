"""One split for all: by species, look-alikes together, by the seed and the photos' bytes alone."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest

from pipeline.dataset.splitting import leaks, split


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
