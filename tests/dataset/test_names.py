"""Scientific names as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.dataset.names import is_genus, nearest, normalise, read_synonyms
from pipeline.errors import DataError


@pytest.mark.parametrize(
    "name",
    [
        "Apis mellifera",
        "apis mellifera",
        "APIS MELLIFERA",
        "Apis_mellifera",
        "  Apis   mellifera ",
        "Apis mellifera Linnaeus, 1758",
        "Apis mellifera (Linnaeus, 1758)",
        "Apis mellifera L.",
        "Apis (Apis) mellifera",
        "Apis mellifera iberiensis",
        "Apis mellifera iberiensis Engel, 1999",
        "Apis mellifera subsp. iberiensis",
        "Apis × mellifera",
        "Apis x mellifera",
        "×Apis mellifera",
        "Ápis mellífera",
    ],
)
def test_one_species_in_many_spellings(name: str) -> None:
    assert normalise(name) == "apis mellifera"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Great Blue Heron", "Great Blue Turaco"),
        ("Black footed Albatross", "Black footed Petrel"),
        ("great blue heron", "great blue turaco"),
        ("Apis", "Apis mellifera"),
        ("Apis sp.", "Apis spp."),
        ("Apis cf. mellifera", "Apis mellifera"),
        ("Apis cf. mellifera", "Apis cf. cerana"),
        ("Anas acuta × Anas crecca", "Anas acuta"),
        ("Anas acuta × Anas crecca", "Anas acuta × Anas strepera"),
        ("Polygonia c-album", "Polygonia c-aureum"),
        ("Xus xus", "Xus yus"),
    ],
)
def test_two_species_stay_two(a: str, b: str) -> None:
    assert normalise(a) != normalise(b)


def test_a_formula_of_hybrids_may_be_written_with_an_x() -> None:
    assert normalise("Anas acuta x Anas crecca") == normalise("Anas acuta × Anas crecca")


def test_genera() -> None:
    assert [is_genus(name) for name in ("Apis", "Apis sp.", "Apis spp.", "Apis mellifera", "apis")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_the_nearest_candidate_is_similar_enough_or_none() -> None:
    known = ["Apis mellifera", "Apis cerana", "Pieris rapae"]
    assert nearest(["Apis melifera", "Pieris rapæ", "Bombus terrestris"], known) == {
        "Apis melifera": "Apis mellifera",
        "Pieris rapæ": "Pieris rapae",
    }
    assert nearest(["Apis"], []) == nearest([], ["Apis"]) == {}


def write(folder: Path, text: str) -> Path:
    (folder / "synonyms.csv").write_text(text, encoding="utf-8")
    return folder / "synonyms.csv"


def test_synonyms_lead_to_the_end_of_their_chain(tmp_path: Path) -> None:
    table = read_synonyms(write(tmp_path, "accepted,synonym,by\nBb bb,Aa aa,me\nCc cc,Bb bb (L.),me\nY y,X x,me\n"))
    assert table == {"aa aa": "cc cc", "bb bb": "cc cc", "x x": "y y"}


def test_synonyms_in_a_circle_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"synonyms.csv: the synonyms of \w \w lead in a circle"):
        read_synonyms(write(tmp_path, "synonym,accepted\nA a,B b\nB b,C c\nC c,B b\n"))


@pytest.mark.parametrize("text", ["old,new\nA a,B b\n", "synonym,accepted\nA a,\n", "synonym,accepted\nA a\n"])
def test_a_table_without_its_columns_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="synonyms.csv, line 2: each row needs a synonym and an accepted name"):
        read_synonyms(write(tmp_path, text))


def test_a_missing_table_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no table of synonyms at .*none.csv \(region.synonyms\)"):
        read_synonyms(tmp_path / "none.csv")
