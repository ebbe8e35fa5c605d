"""iNaturalist's JSON files: categories, official parts, filters, archives instead of folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.dataset.formats.base import Photo, Want
from pipeline.dataset.formats.inat_json import read
from pipeline.errors import DataError

from .files import touch, write

WORM = "00007_Animalia_Annelida_Polychaeta_Phyllodocida_Polynoidae_Harmothoe_imbricata"
BEE = "00412_Animalia_Arthropoda_Insecta_Hymenoptera_Apidae_Apis_mellifera"
OAK = "06000_Plantae_Tracheophyta_Magnoliopsida_Fagales_Fagaceae_Quercus_robur"
MINI = [f"train_mini/{WORM}/1.jpg", f"train_mini/{BEE}/2.jpg", f"train_mini/{OAK}/3.jpg"]
CATEGORIES = [
    {"id": 7, "name": "Harmothoe imbricata", "supercategory": "Animals", "kingdom": "Animalia", "class": "Polychaeta"},
    {"id": 412, "name": "Apis mellifera", "supercategory": "Insects"},
    {"id": 6000, "name": "Quercus robur", "supercategory": "Plants", "kingdom": "Plantae", "phylum": "Tracheophyta"},
]
ALL = Want(("Animalia", "Insecta", "Plantae"))


def annotated(paths: list[str], categories: list[int], **known: Any) -> dict[str, Any]:
    return {
        "images": [{"id": i, "file_name": path, **known} for i, path in enumerate(paths)],
        "annotations": [{"image_id": i, "category_id": c} for i, c in enumerate(categories)],
        "categories": CATEGORIES,
        "licenses": [{"id": 0, "name": "CC BY", "url": ""}],
    }


def names(root: Path, want: Want = ALL) -> list[tuple[str, str]]:
    return [(photo.group, photo.species) for photo in read(root, want).photos]


def test_categories_give_group_and_species_and_the_file_its_part(tmp_path: Path) -> None:
    touch(tmp_path, *MINI, f"val/{BEE}/4.jpg")
    write(
        tmp_path,
        train_mini_json=annotated(
            MINI, [7, 412, 6000], license=0, rights_holder="Ann", date="2019-05-01 10:00:00+00:00"
        ),
        val_json=annotated([f"val/{BEE}/4.jpg"], [412]),
    )
    found = read(tmp_path, ALL)
    assert found.species == {
        "Animalia": ["Harmothoe imbricata"],
        "Insecta": ["Apis mellifera"],
        "Plantae": ["Quercus robur"],
    }
    assert found.photos[0] == Photo(
        MINI[0], "Animalia", "Harmothoe imbricata", "train", "", "CC BY", "Ann", "2019-05-01"
    )
    assert found.photos[-1] == Photo(f"val/{BEE}/4.jpg", "Insecta", "Apis mellifera", "val", "")


def test_images_alone_are_named_by_their_folders(tmp_path: Path) -> None:
    touch(tmp_path, *MINI)
    write(tmp_path, train_mini_json={"images": [{"file_name": path} for path in MINI]})
    assert names(tmp_path) == [
        ("Animalia", "Harmothoe imbricata"),
        ("Insecta", "Apis mellifera"),
        ("Plantae", "Quercus robur"),
    ]


def test_2018_is_named_by_the_list_published_later(tmp_path: Path) -> None:
    path = "train_val2018/Insecta/412/a.jpg"
    touch(tmp_path, path)
    numbers = [{"id": 412, "name": "412", "supercategory": "Insecta"}]
    write(tmp_path, train2018_json={**annotated([path], [412]), "categories": numbers})
    with pytest.raises(DataError, match=r"have numbers for names; put the published categories\.json beside the JSON"):
        read(tmp_path, Want(("Insecta",)))
    write(tmp_path, categories_json=CATEGORIES)
    assert names(tmp_path, Want(("Insecta",))) == [("Insecta", "Apis mellifera")]


@pytest.mark.parametrize(
    ("want", "species"),
    [
        (Want(("Insecta",)), ["Apis mellifera"]),
        (Want(("Animalia", "Insecta"), kingdom="animalia"), ["Harmothoe imbricata", "Apis mellifera"]),
        (Want(("Animalia", "Insecta"), categories=(0, 1000)), ["Harmothoe imbricata", "Apis mellifera"]),
        (Want(("Animalia",), categories=(0, 99)), ["Harmothoe imbricata"]),
        (Want(("Plantae",), kingdom="Plantae", categories=(6000, 6000)), ["Quercus robur"]),
    ],
)
def test_groups_kingdom_and_range_of_categories_choose(tmp_path: Path, want: Want, species: list[str]) -> None:
    touch(tmp_path, *MINI)
    write(tmp_path, train_mini_json={"images": [{"file_name": path} for path in MINI]})
    assert [name for _, name in names(tmp_path, want)] == species


def test_nothing_of_the_filters_says_so(tmp_path: Path) -> None:
    write(tmp_path, train_mini_json={"images": [{"file_name": path} for path in MINI]})
    with pytest.raises(DataError, match=r"no photos of dataset.kingdom 'Fungi' and dataset.categories None"):
        read(tmp_path, Want(("Fungi",), kingdom="Fungi"))
    with pytest.raises(DataError, match=r"no photos of the groups \['Aves'\]; groups there: \['Animalia', 'Insecta'"):
        read(tmp_path, Want(("Aves",)))


def test_photos_that_are_listed_but_not_there_are_told(tmp_path: Path) -> None:
    touch(tmp_path, *MINI[:2])
    write(tmp_path, train_mini_json={"images": [{"file_name": path} for path in MINI]})
    found = read(tmp_path, ALL)
    assert [photo.path for photo in found.photos] == MINI[:2]
    assert found.missing == MINI[2:]
    assert found.species["Plantae"] == ["Quercus robur"]


def test_archive_stands_for_its_folder(tmp_path: Path) -> None:
    write(tmp_path, train_mini_json={"images": [{"file_name": path} for path in MINI]})
    (tmp_path / "train_mini.tar.gz").touch()
    found = read(tmp_path, ALL)
    assert len(found.photos) == 3
    assert found.archives == {"train_mini": tmp_path / "train_mini.tar.gz"}
    touch(tmp_path, *MINI)
    assert read(tmp_path, ALL).archives == {}


def test_one_person_at_one_time_and_place_is_one_observation(tmp_path: Path) -> None:
    seen = {"rights_holder": "Ann", "date": "2019-05-01 10:00:00", "latitude": 43.6, "longitude": 1.4}
    images = [{"file_name": path, **seen} for path in MINI]
    images[1]["date"] = "2019-05-01 10:05:00"
    images[2]["latitude"] = None
    write(tmp_path, train_mini_json={"images": images})
    touch(tmp_path, *MINI)
    first, second, unknown = (photo.observation for photo in read(tmp_path, ALL).photos)
    assert first != second
    assert (first, unknown) == ("Ann|2019-05-01 10:00:00|43.6|1.4", "")


@pytest.mark.parametrize("path", ["../x.jpg", "/etc/passwd", "a/../../x.jpg", "a//x.jpg", "a\\..\\x.jpg", 7])
def test_paths_that_lead_out_are_refused(tmp_path: Path, path: object) -> None:
    write(tmp_path, train_json={"images": [{"file_name": path}]})
    with pytest.raises(DataError, match=r"train\.json names the file .*, which is no path below its folder"):
        read(tmp_path, ALL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no list of images"),
        ('{"images": [{}]}', "is no annotation file of iNaturalist: KeyError"),
        (
            '{"images": [{"file_name": "train/x/1.jpg"}]}',
            "says neither by annotation nor by folder what train/x/1.jpg shows",
        ),
    ],
)
def test_broken_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, train_json=text)
    with pytest.raises(DataError, match=message):
        read(tmp_path, ALL)


def test_folder_without_json_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no train\*\.json or val\*\.json in"):
        read(tmp_path, ALL)
