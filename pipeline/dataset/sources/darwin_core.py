"""A region's species from a Darwin Core archive (GBIF), read from the zip."""

from __future__ import annotations

import csv
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from zipfile import BadZipFile, ZipFile

import pandas as pd

from pipeline.dataset.sources.listing import ANY_GROUP, GROUPS, Listing, listing
from pipeline.errors import DataError

TERMS = ("species", "scientificName", "taxonRank", "kingdom", "phylum", "class")
CHUNK = 500_000  # rows
META_BYTES = 1_000_000
TEXT = "{http://rs.tdwg.org/dwc/text/}"
CLASSES = {  # GBIF's classes of reptiles and, where it has one at all, of ray-finned fishes
    **dict.fromkeys(("Squamata", "Testudines", "Crocodylia", "Sphenodontia"), "Reptilia"),
    **dict.fromkeys(("Actinopteri", "Teleostei", "Chondrostei"), "Actinopterygii"),
}


class Table(NamedTuple):
    """The core file of an archive: its columns and its CSV dialect."""

    name: str
    columns: dict[str, int]
    delimiter: str
    quote: str
    skip: int
    encoding: str
    occurrences: bool


def read_archive(path: Path) -> Listing:
    """Species of the archive's core by iNaturalist's groups; an occurrence core gives the number of its rows too.

    Names are those of the column `species`, else of `scientificName` in rows of the rank species or below (with their
    author; the matching takes it off). Rows of higher ranks and of no group in `GROUPS` stand in no list.
    """
    try:
        with ZipFile(path) as archive:
            table = _table(archive, path)
            return _count(archive, table, path)
    except FileNotFoundError as error:
        raise DataError(f"no Darwin Core archive at {path} (region.file)") from error
    except (BadZipFile, zlib.error, EOFError, OSError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise DataError(f"{path} cannot be read as a Darwin Core archive: {error}") from error


def _table(archive: ZipFile, path: Path) -> Table:
    names = archive.namelist()
    if "meta.xml" not in names:  # GBIF's "simple" download: one tab-separated file with a header
        if len(names) != 1:
            raise DataError(f"{path} has no meta.xml; it holds {', '.join(names[:5]) or 'nothing'}")
        with archive.open(names[0]) as file:
            header = file.readline(1 << 20).decode("utf-8-sig").rstrip("\r\n").split("\t")
        columns = {term: header.index(term) for term in TERMS if term in header}
        return Table(names[0], columns, "\t", "", 1, "utf-8", "occurrenceID" in header or "gbifID" in header)
    if archive.getinfo("meta.xml").file_size > META_BYTES:
        raise DataError(f"{path}: its meta.xml is larger than {META_BYTES:,} bytes")
    try:
        core = ElementTree.fromstring(archive.read("meta.xml")).find(f"{TEXT}core")
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: its meta.xml is no XML: {error}") from error
    location = core.find(f".//{TEXT}location") if core is not None else None
    if core is None or location is None or (location.text or "").strip() not in names:
        raise DataError(f"{path}: its meta.xml names no core file that is in the archive")
    columns = {
        term: int(field.get("index", ""))
        for field in core.iter(f"{TEXT}field")
        if (term := field.get("term", "").rpartition("/")[2]) in TERMS and field.get("index", "").isdecimal()
    }
    return Table(
        (location.text or "").strip(),
        columns,
        core.get("fieldsTerminatedBy", ",").replace("\\t", "\t"),
        core.get("fieldsEnclosedBy", '"'),
        int(core.get("ignoreHeaderLines") or 0),
        core.get("encoding", "utf-8"),
        core.get("rowType", "").endswith("Occurrence"),
    )


def _count(archive: ZipFile, table: Table, path: Path) -> Listing:
    if not {"species", "scientificName"} & set(table.columns):
        raise DataError(f"{path}: {table.name} has neither a column species nor scientificName")
    order = sorted(table.columns, key=table.columns.__getitem__)
    counts: Counter[tuple[str, str]] = Counter()
    with archive.open(table.name) as file:
        chunks = pd.read_csv(
            file, sep=table.delimiter, header=None, names=order, usecols=sorted(table.columns.values()),
            skiprows=table.skip, encoding=table.encoding, dtype=str, keep_default_na=False, chunksize=CHUNK,
            quotechar=table.quote or '"', quoting=csv.QUOTE_MINIMAL if table.quote else csv.QUOTE_NONE,
        )  # fmt: skip
        for chunk in chunks:
            for term in TERMS:
                if term not in chunk:
                    chunk[term] = ""
            counts.update(zip(_groups(chunk), _names(chunk), strict=True))
    found: dict[str, dict[str, int | None]] = {}
    for (group, name), n in counts.items():
        if name and group:
            found.setdefault(group, {})[name] = n if table.occurrences else None
    return listing(found)


def _names(rows: pd.DataFrame) -> pd.Series[str]:
    rank = rows["taxonRank"].str.lower()
    low = rank.isin(["", "species", "subspecies", "variety", "form"])
    return rows["species"].where(rows["species"] != "", rows["scientificName"].where(low, ""))


def _groups(rows: pd.DataFrame) -> pd.Series[str]:
    """The first of class, phylum, kingdom that is a group; rows without all three belong to any group."""
    result = pd.Series(ANY_GROUP, index=rows.index).where(rows["class"] + rows["phylum"] + rows["kingdom"] == "", "")
    result = result.mask((rows["class"] == "") & (rows["phylum"] == "Chordata"), "Actinopterygii")  # no class in GBIF
    for term in ("class", "phylum", "kingdom"):
        named = rows[term].replace(CLASSES)
        result = result.where(result != "", named.where(named.isin(list(GROUPS)), ""))
    return result
