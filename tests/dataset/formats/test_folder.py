"""The users' folder form: sorted, complete, whatever the names look like."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from pipeline.dataset.formats.base import Listing, Photo, Want
from pipeline.dataset.formats.folder import folders, read
from pipeline.errors import DataError

from .files import touch

ACCENTED = "Épeire diadème"


def test_species_are_sorted_within_the_groups_asked_for(photos: Path) -> None:
    insects = ["Apis mellifera", "Harmonia axyridis", "Pieris rapae", "Vanessa atalanta"]
    assert folders(photos, ["Insecta"]) == {"Insecta": insects}
    assert list(folders(photos, ["Insecta", "Aves"])) == ["Insecta", "Aves"]


def test_missing_root_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no photo folder at .*nowhere; set paths\.src_dataset"):
        folders(tmp_path / "nowhere", ["Aves"])


def test_missing_group_lists_the_groups_there(photos: Path) -> None:
    with pytest.raises(
        DataError, match=r"for the group Fungi; groups there: Aves, Insecta \(global.included_classes\)"
    ):
        folders(photos, ["Aves", "Fungi"])


def listing(root: Path, *groups: str) -> Listing:
    return read(root, Want(groups))


def test_photos_come_sorted_by_group_species_and_name(tmp_path: Path) -> None:
    touch(tmp_path, "B/y/2.jpg", "B/y/1.jpg", "A/z/1.jpg", "B/x/1.jpg")
    found = listing(tmp_path, "B", "A")
    assert [photo.path for photo in found.photos] == ["A/z/1.jpg", "B/x/1.jpg", "B/y/1.jpg", "B/y/2.jpg"]
    assert found.photos[0] == Photo("A/z/1.jpg", "A", "z")
    assert found.species == {"B": ["x", "y"], "A": ["z"]}


def test_only_the_groups_asked_for(photos: Path) -> None:
    found = listing(photos, "Aves")
    assert {photo.group for photo in found.photos} == {"Aves"}
    assert (len(found.photos), found.others) == (10, [])


def test_extension_decides_in_any_case_and_the_rest_is_told(tmp_path: Path) -> None:
    touch(tmp_path, *(f"A/x/{name}" for name in ("1.JPG", "2.jpeg", "3.Png", "notes.txt", "sub/4.jpg", ".hidden.jpg")))
    (tmp_path / "A/x/dead.jpg").symlink_to("nowhere.jpg")
    found = listing(tmp_path, "A")
    assert [photo.path for photo in found.photos] == ["A/x/1.JPG", "A/x/2.jpeg", "A/x/3.Png"]
    assert found.others == ["A/x/dead.jpg", "A/x/notes.txt", "A/x/sub"]


def test_files_between_the_folders_and_hidden_folders_are_no_species(tmp_path: Path) -> None:
    touch(tmp_path, "A/x/1.jpg", "A/readme.txt", "A/.cache/1.jpg")
    assert folders(tmp_path, ["A"]) == {"A": ["x"]}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_in_either_form_are_one_name_and_the_path_is_that_on_disk(tmp_path: Path, form: str) -> None:
    spelt = unicodedata.normalize("NFC" if form == "NFC" else "NFD", ACCENTED)
    touch(tmp_path, f"A/{spelt}/été 1.jpg")
    assert folders(tmp_path, ["A"]) == {"A": [ACCENTED]}
    (photo,) = listing(tmp_path, "A").photos
    assert photo.species == ACCENTED
    assert photo.path == f"A/{spelt}/été 1.jpg"
    assert (tmp_path / photo.path).is_file()


def test_two_folders_of_one_name_are_one_species(tmp_path: Path) -> None:
    touch(tmp_path, f"A/{ACCENTED}/1.jpg", f"A/{unicodedata.normalize('NFD', ACCENTED)}/2.jpg")
    assert folders(tmp_path, ["A"]) == {"A": [ACCENTED]}
    found = listing(tmp_path, "A").photos
    assert {photo.path[-5:] for photo in found} == {"1.jpg", "2.jpg"}
    assert {photo.species for photo in found} == {ACCENTED}


@pytest.mark.parametrize("name", ["Aphis sp.", "a..b", "a b  c", "C: *?", "$a$", "-rf", "x" * 200])
def test_odd_names_are_found_as_they_are(tmp_path: Path, name: str) -> None:
    touch(tmp_path, f"A/{name}/1 .. é.jpg")
    found = listing(tmp_path, "A").photos
    assert [photo.path for photo in found] == [f"A/{name}/1 .. é.jpg"]
