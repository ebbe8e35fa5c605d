"""The manifest: one row per image, the label space and the seed inside, the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.dataset.manifest import COLUMNS, read_manifest, write_manifest
from pipeline.errors import DataError
from pipeline.files import write_text
from pipeline.labels import LabelSpace

LABELS = LabelSpace(("Épeire", "Other"))


@pytest.fixture
def rows() -> pd.DataFrame:
    table = pd.DataFrame({"image_path": [f"A/x/{i}.jpg" for i in range(6)], "group": "A"})
    table["species"] = ["Épeire", "Épeire", "Épeire", "b", "b", "b"]
    table["label_id"] = [0, 0, 0, 1, 1, 1]
    table["split"] = ["train", "val", "test", "train", "test", ""]
    table["sha256"], table["width"], table["height"], table["duplicate_group"] = "0f", 64, 48, range(6)
    table["ok"] = [True] * 5 + [False]
    table["reason"] = [""] * 5 + ["truncated"]
    return table.assign(more="not kept")


def test_rows_labels_and_seed_come_back(tmp_path: Path, rows: pd.DataFrame) -> None:
    write_manifest(tmp_path, rows, LABELS, 7)
    manifest = read_manifest(tmp_path, Path("root"))
    assert list(manifest.rows.columns) == list(COLUMNS)
    assert manifest.rows["species"].tolist() == rows["species"].tolist()
    assert (manifest.labels, manifest.seed, manifest.root) == (LABELS, 7, Path("root"))


def test_the_hash_is_of_photos_species_and_split_whatever_the_labels(tmp_path: Path, rows: pd.DataFrame) -> None:
    def hash_(table: pd.DataFrame, labels: LabelSpace = LABELS) -> str:
        write_manifest(tmp_path, table, labels, 7)
        return read_manifest(tmp_path, tmp_path).hash

    first = hash_(rows)
    assert len(first) == 12
    assert hash_(rows.assign(label_id=0, date="2020-05-01"), LabelSpace(("Other",))) == first
    others = [hash_(rows.assign(**{name: rows[name].tolist()[::-1]})) for name in ("image_path", "species", "split")]
    assert len({first, hash_(rows.assign(sha256="1f")), *others}) == 5


def test_views_hold_their_split_with_the_same_columns_also_when_empty(tmp_path: Path, rows: pd.DataFrame) -> None:
    rows.loc[rows["split"] == "val", "split"] = "train"
    write_manifest(tmp_path, rows, LABELS, 7)
    views = {name: pq.read_table(tmp_path / f"{name}.parquet") for name in ("dataset_manifest", "train", "val", "test")}
    assert {name: len(view) for name, view in views.items()} == {"dataset_manifest": 6, "train": 3, "val": 0, "test": 2}
    assert len({view.schema for view in views.values()}) == 1
    assert all(view.schema.metadata == views["train"].schema.metadata for view in views.values())
    assert "Épeire" in views["val"].schema.metadata[b"ommatidia"].decode()


def test_same_rows_give_the_same_bytes(tmp_path: Path, rows: pd.DataFrame) -> None:
    for name in ("a", "b"):
        write_manifest(tmp_path / name, rows, LABELS, 7)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_what_no_photo_knows_leaves_no_trace(tmp_path: Path, rows: pd.DataFrame) -> None:
    write_manifest(tmp_path / "without", rows, LABELS, 7)
    write_manifest(tmp_path / "unknown", rows.assign(observation="", date=""), LABELS, 7)
    write_manifest(tmp_path / "known", rows.assign(date=["2020-05-01", *[""] * 5]), LABELS, 7)
    without, unknown, known = (read_manifest(tmp_path / name, tmp_path) for name in ("without", "unknown", "known"))
    assert list(without.rows) == list(unknown.rows) == COLUMNS
    assert known.rows["date"].tolist() == ["2020-05-01", *[""] * 5]


def test_bad_photos_count_for_nothing(tmp_path: Path, rows: pd.DataFrame) -> None:
    write_manifest(tmp_path, rows, LABELS, 7)
    manifest = read_manifest(tmp_path, tmp_path)
    assert manifest.composition() == {"A": {"b": 2, "Épeire": 3}}
    assert manifest.species().names == ("b", "Épeire")
    assert [len(manifest.part(split)) for split in ("train", "val", "test")] == [2, 1, 2]
    assert manifest.part("test").index.tolist() == [0, 1]


def test_missing_manifest_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no manifest at .*; run dataset_orchestrator\.py with the same --config first"
    ):
        read_manifest(tmp_path, tmp_path)


@pytest.mark.parametrize("kind", ["text", "parquet of others"])
def test_foreign_file_is_refused(tmp_path: Path, rows: pd.DataFrame, kind: str) -> None:
    path = tmp_path / "dataset_manifest.parquet"
    if kind == "text":
        write_text(path, "path: 3")
    else:
        rows[["image_path", "label_id"]].to_parquet(path)
    with pytest.raises(DataError, match="is not a manifest of this project; run dataset_orchestrator.py again"):
        read_manifest(tmp_path, tmp_path)
