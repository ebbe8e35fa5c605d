"""A region's species from a text, CSV or JSON file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.dataset.sources.listing import ANY_GROUP, Listing
from pipeline.dataset.sources.species_list import read_listing, read_species_list
from pipeline.errors import DataError


def write(folder: Path, content: object, name: str = "region.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_groups_asked_for_sorted_and_without_repetition(tmp_path: Path) -> None:
    path = write(tmp_path, {"Aves": ["b", "a", "b"], "Fungi": ["c"]})
    assert read_species_list(path, ["Aves", "Insecta"]) == {"Aves": ["a", "b"], "Insecta": []}


def test_list_without_any_of_the_groups_names_both_sides(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of the groups \['Aves'\]; it has \['Fungi'\]"):
        read_species_list(write(tmp_path, {"Plantae": [], "Fungi": ["c"]}), ["Aves"])


def test_names_without_a_group_are_of_any(tmp_path: Path) -> None:
    path = write(tmp_path, ["Apis mellifera", "Pica pica"])
    assert read_species_list(path, ["Aves"]) == {"Aves": [], ANY_GROUP: ["Apis mellifera", "Pica pica"]}


def test_a_composition_counts(tmp_path: Path) -> None:
    path = write(tmp_path, {"Insecta": {"Pieris rapae": 3, "Apis mellifera": 5}})
    species, observations = read_listing(path)
    assert species == {"Insecta": ["Apis mellifera", "Pieris rapae"]}
    assert observations == {"Insecta": {"Apis mellifera": 5, "Pieris rapae": 3}}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_finds_its_columns_by_name(tmp_path: Path, delimiter: str) -> None:
    rows = ["id|Iconic_taxon_name|Scientific_name|count", "1|Insecta|Apis mellifera|5", "2|Aves|Pica pica|2", "3||  |"]
    rows.append("4|Insecta|Apis mellifera|6")
    path = write(tmp_path, "\ufeff" + "\n".join(rows).replace("|", delimiter), "region.csv")
    assert read_listing(path).observations == {"Aves": {"Pica pica": 2}, "Insecta": {"Apis mellifera": 11}}


def test_csv_with_gaps_in_its_counts_counts_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, 'species,count\n"Apis mellifera",5\nPica pica,\nShort\n', "region.csv")
    assert read_listing(path) == Listing({ANY_GROUP: ["Apis mellifera", "Pica pica", "Short"]}, {})


def test_csv_as_spreadsheets_quote_it(tmp_path: Path) -> None:
    path = write(tmp_path, 'species,group\r\n"Apis mellifera, the bee",Insecta\r\n', "region.csv")
    assert read_listing(path).species == {"Insecta": ["Apis mellifera, the bee"]}


def test_text_has_a_species_per_line_and_perhaps_groups(tmp_path: Path) -> None:
    text = "# mine\nTuber\n\n[Insecta]\n Pieris rapæ \nApis mellifera\n[Aves]\nPica pica\n"
    path = write(tmp_path, text, "region.txt")
    expected = {"Aves": ["Pica pica"], "Insecta": ["Apis mellifera", "Pieris rapæ"], ANY_GROUP: ["Tuber"]}
    assert read_listing(path) == Listing(expected, {})


@pytest.mark.parametrize("content", [{"Aves": "Pica pica"}, {"Aves": [1]}, {"Aves": [""]}, [["a"]], 7, None])
def test_malformed_list_shows_the_forms(tmp_path: Path, content: object) -> None:
    with pytest.raises(DataError, match=r'region\.json is no species list; the forms are: JSON \{"group": \["species"'):
        read_listing(write(tmp_path, content))


@pytest.mark.parametrize("n", [-1, 1.5, "3", True])
def test_a_count_is_a_whole_number(tmp_path: Path, n: object) -> None:
    with pytest.raises(DataError, match="Pica pica of Aves is counted as .*; a count is a whole number"):
        read_listing(write(tmp_path, {"Aves": {"Pica pica": n}}))
    with pytest.raises(DataError, match="line 2: .* is no count"):
        read_listing(write(tmp_path, f"species,count\nPica pica,{n}x\n", "region.csv"))


def test_csv_without_a_species_column_shows_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has the columns \['taxon', 'n'\], none of them species, scientific_name"):
        read_listing(write(tmp_path, "taxon,n\nApis,1\n", "region.csv"))


@pytest.mark.parametrize("name", ["region.json", "region.csv", "region.txt"])
def test_what_is_no_text_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match=f"{name} cannot be read as a species list: .*utf-8"):
        read_listing(tmp_path / name)


def test_broken_json_names_the_file_and_the_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"region.json cannot be read as a species list: .*line 1"):
        read_listing(write(tmp_path, '{"Aves": ['))


def test_missing_list_says_what_can_be_done(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no species list at .*none\.json; name yours, or set region.source"):
        read_listing(tmp_path / "none.json")


def test_real_list_has_the_published_size(tmp_path: Path, reference: object) -> None:
    assert callable(reference)
    path = write(tmp_path, reference("haute_garonne_checklist.json"))
    sizes = {group: len(names) for group, names in read_species_list(path, ["Aves", "Insecta"]).items()}
    assert sizes == {"Aves": 218, "Insecta": 2681}
