"""Open Data tables, queried where they lie: a tiny snapshot with answers known by hand."""

from __future__ import annotations

import gzip
import json
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.dataset.sources.listing import Listing
from pipeline.dataset.sources.open_data import Query, search
from pipeline.errors import DataError

from .snapshot import uuid, write_snapshot

BOX = (1.0, 43.0, 2.0, 44.0)
BOTH = ["Aves", "Insecta"]
VANESSA = "Vanessa _atalanta_"  # as its folder will be called
WHOLE = {"Aves": {"Pica pica": 1}, "Insecta": {"Apis mellifera": 3, VANESSA: 1}}


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    return write_snapshot(tmp_path / "snapshot")


def ask(folder: Path, area: Any = BOX, groups: Any = BOTH, **wishes: Any) -> tuple[Listing, pd.DataFrame]:
    path = folder.parent / "photos.parquet"
    found = search(folder, Query(area, groups, **wishes), path, memory_gb=0.5)
    assert sorted(p.name for p in folder.parent.iterdir() if "photos" in p.name) == ["photos.parquet"]
    return found, pd.read_parquet(path)


def geojson(folder: Path, data: object) -> Path:
    path = folder / "area.geojson"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def square(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


@pytest.mark.parametrize("packed", [True, False])
def test_species_counts_and_photos_of_a_box(tmp_path: Path, packed: bool) -> None:
    found, photos = ask(write_snapshot(tmp_path / "snapshot", packed))
    assert found.observations == WHOLE  # the subspecies counts for its species, genus and hybrid for none
    assert photos["photo_id"].tolist() == [105, 101, 102, 103, 108, 110, 104]
    assert set(photos["species"]) == {name for names in found.species.values() for name in names}


def test_each_photo_says_whose_it_is(snapshot: Path) -> None:
    photos = ask(snapshot)[1].set_index("photo_id")
    assert photos.loc[101].to_dict() == {
        "group": "Insecta", "species": "Apis mellifera", "extension": "jpg", "width": 2048, "height": 1536,
        "observation": uuid(1), "date": "2020-05-01", "observer": "ana", "licence": "CC-BY-NC",
        "attribution": '(c) Ana O\'Neill "Nan", some rights reserved (CC BY-NC)',
    }  # fmt: skip
    assert photos["attribution"][102] == 'Ana O\'Neill "Nan", no rights reserved (CC0)'
    assert photos["attribution"][103] == "(c) ben, some rights reserved (CC BY)"
    assert photos["attribution"][108] == "(c) observer 99, some rights reserved (CC BY-SA)"
    assert photos["extension"][104] == "jpg"
    assert photos["date"][108] == ""


def test_a_photo_of_two_species_is_left_out_and_one_of_two_observations_is_there_once(snapshot: Path) -> None:
    photos = ask(snapshot)[1].set_index("photo_id")
    assert 109 not in photos.index
    assert photos.loc[110]["observation"] == uuid(1)


def test_a_photo_of_two_species_is_kept_where_only_one_of_them_is_wanted(snapshot: Path) -> None:
    assert ask(snapshot, first_day=date(2022, 1, 1))[1]["photo_id"].tolist() == [105, 104, 109]


@pytest.mark.parametrize(
    ("wishes", "observations"),
    [
        ({"groups": ["Aves"]}, {"Aves": {"Pica pica": 1}}),
        ({"groups": ["Animalia"]}, {"Animalia": {"Lumbricus terrestris": 1}}),
        ({"quality": "any", "groups": ["Insecta"]}, {"Insecta": {"Apis mellifera": 4, VANESSA: 1}}),
        ({"quality": "needs_id"}, {"Insecta": {"Apis mellifera": 1}}),
        ({"first_day": date(2021, 5, 1)}, {"Aves": {"Pica pica": 1}, "Insecta": {"Apis mellifera": 1, VANESSA: 1}}),
        ({"last_day": date(2021, 5, 1)}, {"Insecta": {"Apis mellifera": 2}}),
        ({"first_day": date(2030, 1, 1)}, {}),
        ({"area": (170.0, -1.0, -170.0, 1.0)}, {"Aves": {"Pica pica": 2}}),
        ({"area": (-180.0, -90.0, 180.0, 90.0)}, {"Aves": {"Pica pica": 3}, "Insecta": {"Apis mellifera": 5, VANESSA: 1}}),
    ],
)  # fmt: skip
def test_what_is_asked_for_is_found(snapshot: Path, wishes: Any, observations: Any) -> None:
    assert ask(snapshot, **wishes)[0].observations == observations


def test_licences_choose_photos_not_observations(snapshot: Path) -> None:
    found, photos = ask(snapshot, licences=["CC0", "CC-BY-SA"])
    assert found.observations == WHOLE
    assert photos["photo_id"].tolist() == [102, 108]


def test_so_many_per_species_drawn_by_the_seed(snapshot: Path) -> None:
    drawn = [ask(snapshot, per_species=2, seed=seed)[1] for seed in (1, 1, 2, 5)]
    assert all(len(photos) == 4 for photos in drawn)
    assert drawn[0].equals(drawn[1])
    assert len({tuple(photos["photo_id"]) for photos in drawn}) > 1


RING = square(1.35, 43.55, 1.45, 43.65)
POLYGONS = {
    "feature": {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [RING]}},
    "geometry": {"type": "Polygon", "coordinates": [RING]},
    "collection": {
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [RING]}}],
    },
    "several": {"type": "MultiPolygon", "coordinates": [[RING], [square(50, 50, 51, 51)]]},
    "hole": {"type": "Polygon", "coordinates": [square(1.3, 43.3, 1.7, 43.7), square(1.48, 43.38, 1.62, 43.52)]},
}


@pytest.mark.parametrize("form", POLYGONS)
def test_a_polygon(snapshot: Path, tmp_path: Path, form: str) -> None:
    found, _ = ask(snapshot, geojson(tmp_path, POLYGONS[form]))
    assert found.observations == {"Aves": {"Pica pica": 1}, "Insecta": {"Apis mellifera": 1}}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("{", "is no GeoJSON with polygons"),
        ("[1]", "is no GeoJSON with polygons"),
        ({"type": "Feature"}, "is no GeoJSON with polygons"),
        ({"type": "Polygon", "coordinates": [[1, 2]]}, "is no GeoJSON with polygons"),
        ({"type": "Point", "coordinates": [1, 2]}, "holds no polygon"),
        ({"type": "FeatureCollection", "features": []}, "holds no polygon"),
    ],
)
def test_what_is_no_polygon_is_refused(snapshot: Path, tmp_path: Path, data: object, words: str) -> None:
    with pytest.raises(DataError, match=rf"area.geojson {words}.*\(region.polygon\)"):
        ask(snapshot, geojson(tmp_path, data))


def test_missing_polygon(snapshot: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no polygon at .*none.geojson \(region.polygon\)"):
        ask(snapshot, tmp_path / "none.geojson")


def test_same_bytes_whatever_the_number_of_threads(snapshot: Path, tmp_path: Path) -> None:
    made = []
    for threads in (1, 4):
        path = tmp_path / f"{threads}.parquet"
        search(snapshot, Query(BOX, BOTH, per_species=3), path, 0.5, threads)
        made.append(path.read_bytes())
    assert made[0] == made[1]


def test_columns_that_came_later_and_another_order_do_no_harm(snapshot: Path) -> None:
    rows = gzip.decompress((snapshot / "photos.csv.gz").read_bytes()).decode().splitlines()
    turned = ["\t".join(("new", *reversed(row.split("\t")))) for row in rows]
    (snapshot / "photos.csv.gz").write_bytes(gzip.compress("\n".join(turned).encode()))
    assert len(ask(snapshot)[1]) == 7


def test_missing_table(snapshot: Path) -> None:
    (snapshot / "observers.csv.gz").unlink()
    with pytest.raises(
        DataError, match=r"no observers.csv.gz in .*snapshot \(region.file\); the snapshot's tables are"
    ):
        ask(snapshot)


def test_missing_column_shows_what_is_there(snapshot: Path) -> None:
    (snapshot / "photos.csv.gz").write_bytes(gzip.compress(b"photo_id\tobservation_uuid\n1\t2\n"))
    words = (
        r"photos.csv.gz has no column observer_id, extension, license, .*; its columns are photo_id, observation_uuid"
    )
    with pytest.raises(DataError, match=words):
        ask(snapshot)


@pytest.mark.parametrize("part", [0.5, 0.9, 0.99])
def test_a_cut_table_is_an_error_and_not_a_smaller_region(snapshot: Path, part: float) -> None:
    path = snapshot / "photos.csv.gz"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(DataError, match="cannot be queried"):
        ask(snapshot)
    assert not (snapshot.parent / "photos.parquet").exists()


def test_what_a_killed_query_left_behind_is_cleared_away(snapshot: Path) -> None:
    (snapshot.parent / ".photos.spill").mkdir()
    (snapshot.parent / ".photos.spill" / "duckdb_temp_storage.tmp").write_text("half")
    (snapshot.parent / ".photos.tmp.parquet").write_text("half")
    assert len(ask(snapshot)[1]) == 7


def test_no_table_at_all(snapshot: Path) -> None:
    (snapshot / "taxa.csv.gz").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"taxa.csv.gz|cannot be queried"):
        ask(snapshot)
