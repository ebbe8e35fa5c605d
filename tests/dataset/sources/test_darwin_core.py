"""Darwin Core archives as GBIF gives them."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest

from pipeline.dataset.sources.darwin_core import read_archive
from pipeline.dataset.sources.listing import ANY_GROUP, Listing
from pipeline.errors import DataError

META = """<?xml version="1.0" encoding="utf-8"?>
<archive xmlns="http://rs.tdwg.org/dwc/text/" metadata="metadata.xml">
  <core encoding="utf-8" fieldsTerminatedBy="{sep}" linesTerminatedBy="\\n" fieldsEnclosedBy="{quote}"
        ignoreHeaderLines="1" rowType="http://rs.tdwg.org/dwc/terms/{kind}">
    <files><location>{file}</location></files>
    <id index="0" />
    {fields}
  </core>
  <extension encoding="utf-8" fieldsTerminatedBy="\\t" rowType="http://rs.gbif.org/terms/1.0/Multimedia">
    <files><location>multimedia.txt</location></files><coreid index="0" />
    <field index="1" term="http://rs.tdwg.org/dwc/terms/scientificName"/>
  </extension>
</archive>"""
COLUMNS = ["scientificName", "kingdom", "phylum", "class", "taxonRank", "species"]
ROWS = [
    ("Apis mellifera Linnaeus, 1758", "Animalia", "Arthropoda", "Insecta", "SPECIES", "Apis mellifera"),
    ("Apis mellifera iberiensis", "Animalia", "Arthropoda", "Insecta", "SUBSPECIES", "Apis mellifera"),
    ("Apis", "Animalia", "Arthropoda", "Insecta", "GENUS", ""),
    ('Vanessa "atalanta"', "Animalia", "Arthropoda", "Insecta", "SPECIES", 'Vanessa "atalanta"'),
    ("Lacerta bilineata", "Animalia", "Chordata", "Squamata", "SPECIES", "Lacerta bilineata"),
    ("Salmo trutta", "Animalia", "Chordata", "", "SPECIES", "Salmo trutta"),
    ("Helix pomatia", "Animalia", "Mollusca", "Gastropoda", "SPECIES", "Helix pomatia"),
    ("Lumbricus terrestris", "Animalia", "Annelida", "Clitellata", "SPECIES", "Lumbricus terrestris"),
    ("Bellis perennis L.", "Plantae", "Tracheophyta", "Magnoliopsida", "SPECIES", "Bellis perennis"),
    ("Escherichia coli", "Bacteria", "Proteobacteria", "", "SPECIES", "Escherichia coli"),
]
WHOLE = {
    "Actinopterygii": {"Salmo trutta": 1},
    "Animalia": {"Lumbricus terrestris": 1},
    "Insecta": {"Apis mellifera": 2, 'Vanessa "atalanta"': 1},
    "Mollusca": {"Helix pomatia": 1},
    "Plantae": {"Bellis perennis": 1},
    "Reptilia": {"Lacerta bilineata": 1},
}


def write(
    path: Path, rows: list[tuple[str, ...]] = ROWS, kind: str = "Occurrence", sep: str = "\t", quote: str = ""
) -> Path:
    file = "occurrence.txt" if kind == "Occurrence" else "Taxon.tsv"
    fields = [f'<field index="{i}" term="http://rs.tdwg.org/dwc/terms/{name}"/>' for i, name in enumerate(COLUMNS, 2)]
    meta = META.format(
        sep=sep.replace("\t", "\\t"), quote=quote.replace('"', "&quot;"), kind=kind, file=file, fields="".join(fields)
    )
    lines = [sep.join(["id", "other", *COLUMNS])]
    lines += [sep.join(f"{quote}{cell}{quote}" for cell in (str(i), "x", *row)) for i, row in enumerate(rows)]
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        archive.writestr("meta.xml", meta)
        archive.writestr(file, "\n".join(lines) + "\n")
        archive.writestr("multimedia.txt", "a\tb\n")
    return path


def test_occurrences_are_counted_by_species_and_group(tmp_path: Path) -> None:
    found = read_archive(write(tmp_path / "gbif.zip"))
    assert found.observations == WHOLE
    assert found.species == {group: list(members) for group, members in WHOLE.items()}


def test_a_check_list_does_not_count_and_keeps_the_author_for_the_matching(tmp_path: Path) -> None:
    rows = [(name, kingdom, phylum, class_, rank, "") for name, kingdom, phylum, class_, rank, _ in ROWS[:3]]
    found = read_archive(write(tmp_path / "list.zip", rows, "Taxon"))
    assert found == Listing({"Insecta": ["Apis mellifera Linnaeus, 1758", "Apis mellifera iberiensis"]}, {})


def test_comma_separated_and_quoted(tmp_path: Path) -> None:
    rows = [row for row in ROWS if '"' not in row[0]]
    found = read_archive(write(tmp_path / "list.zip", rows, sep=",", quote='"'))
    assert found.observations["Insecta"] == {"Apis mellifera": 2}


def test_rows_without_a_classification_are_of_any_group(tmp_path: Path) -> None:
    found = read_archive(write(tmp_path / "list.zip", [("Apis mellifera", "", "", "", "", "")]))
    assert found.observations == {ANY_GROUP: {"Apis mellifera": 1}}


def test_gbifs_simple_download(tmp_path: Path) -> None:
    rows = ["\t".join(("gbifID", "kingdom", "phylum", "class", "species", "taxonRank"))]
    rows += ["\t".join((str(i), *row[1:4], row[5], row[4])) for i, row in enumerate(ROWS)]
    with ZipFile(tmp_path / "0001.zip", "w") as archive:
        archive.writestr("0001.csv", "\n".join(rows) + "\n")
    assert read_archive(tmp_path / "0001.zip").observations == WHOLE


def test_large_archives_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.dataset.sources.darwin_core.CHUNK", 3)
    assert read_archive(write(tmp_path / "gbif.zip")).observations == WHOLE


def test_missing_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no Darwin Core archive at .*none.zip \(region.file\)"):
        read_archive(tmp_path / "none.zip")


@pytest.mark.parametrize("spoil", [lambda data: b"no zip", lambda data: data[:-30], lambda data: b""])
def test_broken_archive(tmp_path: Path, spoil: object) -> None:
    path = write(tmp_path / "gbif.zip")
    assert callable(spoil)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=r"gbif.zip cannot be read as a Darwin Core archive"):
        read_archive(path)


def test_damaged_member(tmp_path: Path) -> None:
    path = write(tmp_path / "gbif.zip", ROWS * 500)
    data = bytearray(path.read_bytes())
    at = data.index(b"occurrence.txt") + 400
    data[at : at + 50] = bytes(50)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"gbif.zip cannot be read as a Darwin Core archive"):
        read_archive(path)


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        ("<archive", "its meta.xml is no XML"),
        ("<archive/>", "names no core file that is in the archive"),
        (META.format(sep=",", quote="", kind="Taxon", file="../../etc/passwd", fields=""), "names no core file"),
        (META.format(sep=",", quote="", kind="Taxon", file="a.txt", fields=""), "neither a column species nor"),
        ("<archive>" + " " * 1_000_001 + "</archive>", "its meta.xml is larger than 1,000,000 bytes"),
    ],
)
def test_meta_that_cannot_be_used(tmp_path: Path, meta: str, words: str) -> None:
    with ZipFile(tmp_path / "a.zip", "w", ZIP_DEFLATED) as archive:
        archive.writestr("meta.xml", meta)
        archive.writestr("a.txt", "id\n")
    with pytest.raises(DataError, match=words):
        read_archive(tmp_path / "a.zip")


def test_zip_of_something_else(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jpg", "")
        archive.writestr("b.jpg", "")
    with pytest.raises(DataError, match="has no meta.xml; it holds a.jpg, b.jpg"):
        read_archive(tmp_path / "a.zip")
