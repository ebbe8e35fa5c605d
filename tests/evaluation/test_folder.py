"""Another labelled folder, scored by the models and rules of an experiment."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from toy import COLOURS, Experiment, write_photo

from pipeline.config import Config
from pipeline.errors import DataError
from pipeline.evaluation.folder import evaluate_folder, labelled_photos

from .files import files, read


def test_another_folder(experiment: Experiment, tmp_path: Path) -> None:
    root = tmp_path / "field photos"
    for i in range(4):
        write_photo(root / "Insecta" / "Apis mellifera" / f"{i}.png", COLOURS["Apis mellifera"])
        write_photo(root / "Zygène d'été" / f"{i}.png", COLOURS["Zygène d'été"])
    for i in range(3):
        write_photo(root / "Bombus terrestris" / f"{i}.png", (0, 0, 0))
    (root / "Apis mellifera").mkdir()
    (root / "Apis mellifera" / "broken.jpg").write_text("not a picture")
    config = experiment.config()
    result = evaluate_folder(config, root)
    assert json.loads(json.dumps(result)) == read(config.output / "evaluation" / "images_field photos.json")
    assert (result["folder"], result["photos"]) == ("field photos", 12)
    assert result["unreadable"] == {"Apis mellifera/broken.jpg": "is no image in a format that Pillow knows"}
    assert result["known_species"] == ["Apis mellifera", "Zygène d'été"]
    assert result["unknown_species"] == ["Bombus terrestris"]
    assert result["photos_of_unknown_species"] == 3
    assert 0 <= result["unknown_sent_on"] <= 1
    assert result["cascade"]["photos"] == 8
    assert result["cascade"]["accuracy"] == 1
    assert result["cascade"]["communication_rate"] == 0.5
    assert result["models"]["main"]["accuracy"] == 1
    assert result["models"]["cache_0.5_0"]["hit_precision"] == 1
    assert result["models"]["cache_0.5_0"]["always_other_accuracy"] == 0.5


def test_without_main_what_no_cache_answers_is_sent_on(experiment: Experiment, tmp_path: Path) -> None:
    for i in range(3):
        write_photo(tmp_path / "field" / "Apis mellifera" / f"{i}.png", COLOURS["Apis mellifera"])
    write_photo(tmp_path / "field" / "Zygène d'été" / "0.png", COLOURS["Zygène d'été"])
    config = experiment.config("route.stages=[cache_0.5_0]", "route.threshold=0.5")
    known = evaluate_folder(config, tmp_path / "field")["cascade"]  # the other species is none of the cache
    assert (known["photos"], known["communication_rate"]) == (3, 0)
    config = experiment.config("route.stages=[cache_0.5_0]", "route.threshold=1.0")
    assert evaluate_folder(config, tmp_path / "field")["cascade"]["communication_rate"] == 1


def test_a_folder_of_unknown_species_only(experiment: Experiment, tmp_path: Path) -> None:
    write_photo(tmp_path / "field" / "Bombus" / "1.png", (0, 0, 0))
    result = evaluate_folder(experiment.config(), tmp_path / "field")
    assert result["known_species"] == []
    assert result["models"] == {"cache_0.5_0": None, "main": None}
    assert "cascade" not in result


def test_a_folder_of_broken_photos_only(experiment: Experiment, tmp_path: Path) -> None:
    (tmp_path / "field" / "Apis mellifera").mkdir(parents=True)
    (tmp_path / "field" / "Apis mellifera" / "1.jpg").touch()
    result = evaluate_folder(experiment.config(), tmp_path / "field")
    assert len(result["unreadable"]) == 1
    assert result["known_species"] == result["unknown_species"] == []


def test_another_folder_leaves_the_experiment_alone(evaluated: Config, tmp_path: Path) -> None:
    before = files(evaluated.output)
    evaluate_folder(evaluated, write_photo(tmp_path / "field" / "Apis mellifera" / "1.png", (220, 30, 30)).parents[1])
    after = files(evaluated.output)
    assert set(after) - set(before) == {"evaluation/images_field.json"}
    assert {name: after[name] for name in before} == before


def test_labelled_photos_are_sorted_and_named_after_their_folder(tmp_path: Path) -> None:
    names = ["Insecta/b/2.JPG", "Insecta/b/1.jpg", "a/1.png", "a/notes.txt", "loose.jpg", "a/._1.png"]
    names.append(unicodedata.normalize("NFD", "Zygène d'été/1.jpg"))  # as a Mac writes it
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "a" / "folder.jpg").mkdir()
    rows = labelled_photos(tmp_path)
    assert rows["species"].tolist() == ["b", "b", "Zygène d'été", "a"]
    assert rows["image_path"].tolist()[:2] == ["Insecta/b/1.jpg", "Insecta/b/2.JPG"]
    assert all((tmp_path / path).exists() for path in rows["image_path"])


@pytest.mark.parametrize("what", ["nothing", "empty", "file", "flat"])
def test_no_labelled_photos(experiment: Experiment, tmp_path: Path, what: str) -> None:
    root = tmp_path / "field"
    if what == "file":
        write_photo(root.with_suffix(".jpg"), (0, 0, 0)).rename(root)
    elif what == "flat":
        write_photo(root / "1.jpg", (0, 0, 0))
    elif what == "empty":
        root.mkdir()
    with pytest.raises(DataError, match="no photos in species folders below .*field; expected <species>/<photo>.jpg"):
        evaluate_folder(experiment.config(), root)
