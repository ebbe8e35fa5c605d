"""A region's species, counts and photos from iNaturalist's Open Data tables, queried in place.

The tables: https://github.com/inaturalist/inaturalist-open-data (tab-separated, no quotes, gzip).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import shapely
from duckdb.func import PythonUDFType
from duckdb.sqltypes import BOOLEAN, DOUBLE

from pipeline.dataset.sources.listing import GROUPS, Listing, listing
from pipeline.errors import DataError
from pipeline.files import replacing, safe_name

TABLES: Mapping[str, Sequence[str]] = {
    "taxa": ("taxon_id", "ancestry", "rank", "name"),
    "observations": ("observation_uuid", "latitude", "longitude", "taxon_id", "quality_grade", "observed_on"),
    "photos": ("photo_id", "observation_uuid", "observer_id", "extension", "license", "width", "height"),
    "observers": ("observer_id", "login", "name"),
}


class Query(NamedTuple):
    """Filter for observations and photos.

    area: (west, south, east, north) in degrees, or a GeoJSON file with polygons. quality: a grade or "any".
    licences: of the photos, upper case; none takes all. per_species: photos at most, drawn by seed; 0 takes all.
    """

    area: tuple[float, float, float, float] | Path
    groups: Collection[str]
    first_day: date | None = None
    last_day: date | None = None
    quality: str = "research"
    licences: Collection[str] = ()
    per_species: int = 0
    seed: int = 0


def search(folder: Path, query: Query, photos: Path, memory_gb: float, threads: int = 0) -> Listing:
    """Species with their numbers of observations, the photos in a parquet file; names are those that their folders will have.

    Its columns: group, species, photo_id (the order of its rows), extension, width, height (px), observation (UUID),
    date (of the observation, empty where unknown), observer (login), licence, attribution. A photo that shows two species
    (it belongs to observations of both) is left out. What does not fit into memory_gb goes to a folder beside `photos`
    that is removed at the end.
    """
    polygon, box = _area(query.area)
    tables = {name: _table(folder, name) for name in TABLES}
    scratch = photos.with_name(f".{photos.stem}.spill")
    settings: dict[str, Any] = {"memory_limit": f"{memory_gb}GB", "temp_directory": str(scratch)}
    settings |= {"preserve_insertion_order": False} | ({"threads": threads} if threads else {})
    try:
        with duckdb.connect(config=settings) as db:
            for name, path in tables.items():
                _open(db, name, path)
            iconic = {"ids": list(GROUPS.values()), "names": list(GROUPS), "groups": list(query.groups)}
            db.execute(_SPECIES, iconic)
            db.execute(_SEEN, _conditions(query, box))
            if polygon is not None:
                _keep_inside(db, polygon)
            _name_as_folders(db)
            counts = db.execute("SELECT grp, name, count(*) FROM seen GROUP BY ALL").fetchall()
            db.execute(_FOUND, {"licences": list(query.licences)})
            with replacing(photos) as temporary:
                out = str(temporary).replace("'", "''")
                chosen = {"n": query.per_species, "seed": str(query.seed)}
                db.execute(_CHOSEN, chosen)
                db.execute(f"COPY (FROM chosen ORDER BY ALL) TO '{out}' (FORMAT parquet)")
    except duckdb.Error as error:
        raise DataError(f"the tables in {folder} cannot be queried: {' '.join(str(error).split())}") from error
    finally:
        if scratch.exists():
            shutil.rmtree(scratch)
    found: dict[str, dict[str, int]] = {}
    for group, name, n in counts:
        found.setdefault(group, {})[name] = n
    return listing(found)


def _table(folder: Path, name: str) -> Path:
    for ending in (".csv.gz", ".csv"):
        if (path := folder / f"{name}{ending}").is_file():
            return path
    raise DataError(f"no {name}.csv.gz in {folder} (region.file); the snapshot's tables are {', '.join(TABLES)}")


def _open(db: duckdb.DuckDBPyConnection, name: str, path: Path) -> None:
    """A view of the table's columns as text; columns of later versions of the format are ignored."""
    where = str(path).replace("'", "''")
    form = "delim='\\t', quote='', escape='', header=true, all_varchar=true, null_padding=false, strict_mode=true"
    db.execute(f"CREATE VIEW {name} AS FROM read_csv('{where}', {form})")
    columns = [row[0] for row in db.execute(f"DESCRIBE {name}").fetchall()]
    if missing := [column for column in TABLES[name] if column not in columns]:
        raise DataError(f"{path} has no column {', '.join(missing)}; its columns are {', '.join(columns)}")


def _area(area: tuple[float, float, float, float] | Path) -> tuple[Any, tuple[float, float, float, float]]:
    """The polygon, if there is one, and the box around it."""
    if not isinstance(area, Path):
        return None, area
    try:
        data = json.loads(area.read_text(encoding="utf-8"))
        parts = [part["geometry"] for part in data["features"]] if "features" in data else [data.get("geometry", data)]
        shapes = [shapely.geometry.shape(part) for part in parts]
    except FileNotFoundError as error:
        raise DataError(f"no polygon at {area} (region.polygon)") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, shapely.errors.ShapelyError) as error:
        raise DataError(f"{area} is no GeoJSON with polygons (region.polygon): {error}") from error
    polygon = shapely.union_all([shapely.make_valid(one) for one in shapes if one.geom_type.endswith("Polygon")])
    if polygon.is_empty:
        raise DataError(f"{area} holds no polygon (region.polygon)")
    west, south, east, north = polygon.bounds
    shapely.prepare(polygon)
    return polygon, (west, south, east, north)


def _conditions(query: Query, box: tuple[float, float, float, float]) -> dict[str, Any]:
    return {
        **dict(zip(("west", "south", "east", "north"), box, strict=True)),
        "quality": "" if query.quality == "any" else query.quality,
        "first": query.first_day,
        "last": query.last_day,
    }


def _keep_inside(db: duckdb.DuckDBPyConnection, polygon: Any) -> None:
    def inside(longitude: pa.ChunkedArray, latitude: pa.ChunkedArray) -> pa.Array:
        return pa.array(shapely.intersects_xy(polygon, np.asarray(longitude), np.asarray(latitude)))

    db.create_function("inside", inside, [DOUBLE, DOUBLE], BOOLEAN, type=PythonUDFType.ARROW)
    db.execute("DELETE FROM seen WHERE NOT inside(longitude, latitude)")
    db.remove_function("inside")


def _name_as_folders(db: duckdb.DuckDBPyConnection) -> None:
    """One spelling of each name for lists, photos and folders."""
    for (name,) in db.execute("SELECT DISTINCT name FROM seen").fetchall():
        if (safe := safe_name(name)) != name:
            db.execute("UPDATE seen SET name = ? WHERE name = ?", [safe, name])


# every taxon of the rank species or below, with the name and the group of its species
_SPECIES = """
CREATE TEMP TABLE species AS
WITH lines AS (
    SELECT taxon_id::INTEGER AS id, list_filter(string_split(ancestry, '/'), lambda x: x <> '')::INTEGER[] AS line, rank, name
    FROM taxa WHERE rank IN ('species', 'subspecies', 'variety', 'form')
), whole AS (
    SELECT id, name, map($ids, $names)[list_filter(line, lambda x: list_contains($ids, x))[-1]] AS grp
    FROM lines WHERE rank = 'species'
)
SELECT id, name, grp FROM whole WHERE list_contains($groups, grp)
UNION ALL
SELECT below.id, whole.name, whole.grp
FROM (SELECT id, unnest(line) AS ancestor FROM lines WHERE rank <> 'species') AS below
JOIN whole ON whole.id = below.ancestor AND below.ancestor <> below.id
WHERE list_contains($groups, whole.grp)
"""

_SEEN = """
CREATE TEMP TABLE seen AS
SELECT observation_uuid::UUID AS uuid, longitude, latitude, date, species.name, species.grp
FROM (
    SELECT observation_uuid, taxon_id, try_cast(longitude AS DOUBLE) AS longitude, try_cast(latitude AS DOUBLE) AS latitude,
           coalesce(try_cast(observed_on AS DATE)::VARCHAR, '') AS date
    FROM observations
    WHERE starts_with(replace(lower(quality_grade), ' ', '_'), $quality)
      AND ($first IS NULL OR try_cast(observed_on AS DATE) >= $first)
      AND ($last IS NULL OR try_cast(observed_on AS DATE) <= $last)
) AS o JOIN species ON species.id = o.taxon_id::INTEGER
WHERE latitude BETWEEN $south AND $north
  AND CASE WHEN $west <= $east THEN longitude BETWEEN $west AND $east
           ELSE longitude >= $west OR longitude <= $east END
"""

_FOUND = """
CREATE TEMP TABLE found AS
SELECT p.photo_id::BIGINT AS photo_id, coalesce(lower(p.extension), '') AS extension, try_cast(p.width AS INTEGER) AS width,
       try_cast(p.height AS INTEGER) AS height, seen.grp, seen.name, seen.uuid, seen.date, p.observer_id::BIGINT AS observer_id,
       coalesce(upper(p.license), 'unknown licence') AS licence
FROM photos AS p JOIN seen ON seen.uuid = p.observation_uuid::UUID
WHERE len($licences) = 0 OR list_contains($licences, upper(p.license))
"""

_CHOSEN = """
CREATE TEMP TABLE chosen AS
WITH once AS (
    SELECT DISTINCT ON (photo_id) * FROM found
    WHERE photo_id NOT IN (SELECT photo_id FROM found GROUP BY photo_id HAVING count(DISTINCT (grp, name)) > 1)
    ORDER BY photo_id, uuid
), drawn AS (
    FROM once QUALIFY $n = 0
    OR row_number() OVER (PARTITION BY grp, name ORDER BY md5($seed || ':' || photo_id::VARCHAR), photo_id) <= $n
), people AS (
    SELECT observer_id::BIGINT AS id, any_value(login) AS login, any_value(name) AS name FROM observers
    WHERE observer_id::BIGINT IN (SELECT observer_id FROM drawn) GROUP BY observer_id
)
SELECT drawn.grp AS "group", drawn.name AS species, photo_id, extension, width, height, uuid::VARCHAR AS observation, date,
       coalesce(people.login, drawn.observer_id::VARCHAR, 'unknown') AS observer, licence,
       CASE WHEN licence IN ('CC0', 'PD') THEN '' ELSE '(c) ' END
       || coalesce(nullif(trim(people.name), ''), people.login, 'observer ' || drawn.observer_id, 'unknown')
       || CASE WHEN licence IN ('CC0', 'PD') THEN ', no rights reserved (' ELSE ', some rights reserved (' END
       || replace(licence, 'CC-', 'CC ') || ')' AS attribution
FROM drawn LEFT JOIN people ON people.id = drawn.observer_id
"""
