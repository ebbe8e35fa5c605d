"""Folders of classes: one group, and train/val/test folders as the official split."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.dataset.formats.base import Photo, Want
from pipeline.dataset.formats.flat import read
from pipeline.errors import DataError

from .files import touch


def test_classes_are_species_of_the_one_group(tmp_path: Path) -> None:
    touch(tmp_path, "Cat/2.jpg", "Cat/1.JPG", "Bear/1.png", "Bear/notes.txt")
    found = read(tmp_path, Want(("Mammalia",)))
    assert found.species == {"Mammalia": ["Bear", "Cat"]}
    assert found.photos[0] == Photo("Bear/1.png", "Mammalia", "Bear")
    assert [photo.path for photo in found.photos] == ["Bear/1.png", "Cat/1.JPG", "Cat/2.jpg"]
    assert found.others == ["Bear/notes.txt"]


def test_folders_of_splits_are_the_official_parts(tmp_path: Path) -> None:
    touch(tmp_path, "train/Cat/1.jpg", "train/Bear/1.jpg", "test/Cat/1.jpg", "valid/Cat/9.jpg")
    found = read(tmp_path, Want(("Mammalia",)))
    assert found.species == {"Mammalia": ["Bear", "Cat"]}
    assert {photo.path: photo.split for photo in found.photos} == {
        "train/Cat/1.jpg": "train",
        "train/Bear/1.jpg": "train",
        "test/Cat/1.jpg": "test",
        "valid/Cat/9.jpg": "val",
    }


def test_class_called_train_among_others_is_a_class(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.jpg", "tram/1.jpg")
    found = read(tmp_path, Want(("Vehicles",)))
    assert [(photo.species, photo.split) for photo in found.photos] == [("train", ""), ("tram", "")]


def test_two_groups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"folders of classes have one group, not \['Aves', 'Insecta'\]; give it one"):
        read(tmp_path, Want(("Aves", "Insecta")))


def test_empty_folder_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folders of classes in .*; set paths\.src_dataset"):
        read(tmp_path, Want(("Aves",)))
