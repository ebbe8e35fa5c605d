"""A table of photos: what is needed, what is optional, as CSV and parquet."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline.dataset.formats.base import Photo, Want
from pipeline.dataset.formats.table import read
from pipeline.errors import DataError

from .files import touch, write

INSECTS = Want(("Insecta",))


def test_all_columns_and_a_photo_at_the_root(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b/c.jpg")
    write(
        tmp_path,
        photos_csv="path,group,species,split,observation,licence,holder,date,width\n"
        "b/c.jpg,Insecta,Apis mellifera,test,9,CC0,Ann,2020-02-29T08:00Z,12\na.jpg,Insecta,Pieris rapae,,,,,May,\n",
    )
    found = read(tmp_path, INSECTS)
    assert found.photos == [
        Photo("a.jpg", "Insecta", "Pieris rapae"),
        Photo("b/c.jpg", "Insecta", "Apis mellifera", "test", "9", "CC0", "Ann", "2020-02-29"),
    ]


def test_parquet_with_the_least(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    rows = {"path": ["a.jpg", "gone.jpg"], "group": ["Insecta"] * 2, "species": ["x", "y"]}
    pd.DataFrame(rows).to_parquet(tmp_path / "photos.parquet")
    found = read(tmp_path, INSECTS)
    assert (found.photos, found.missing) == ([Photo("a.jpg", "Insecta", "x")], ["gone.jpg"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,species\na.jpg,x\n", r"has no columns \['group'\]; it has \['path', 'species'\]"),
        ("path,group,species,split\na.jpg,Insecta,x,dev\n", r"has the splits \['dev'\]; known are train, val, test"),
        ("path,group,species\n../a.jpg,Insecta,x\n", "which is no path below its folder"),
    ],
)
def test_wrong_tables_are_told(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, photos_csv=text)
    with pytest.raises(DataError, match=message):
        read(tmp_path, INSECTS)


def test_no_table_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no photos\.csv or photos\.parquet in"):
        read(tmp_path, INSECTS)
