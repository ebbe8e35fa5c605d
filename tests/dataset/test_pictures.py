"""Which pictures a data set gets, the examples sheets, and that processes change nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import draw_photo
from PIL import Image

from pipeline.dataset import examples
from pipeline.dataset.examples import Examples, choose, fitting, font, sheet
from pipeline.dataset.manifest import Manifest
from pipeline.dataset.overlap import Overlap
from pipeline.dataset.pictures import draw, pictures
from pipeline.labels import LabelSpace

NAMES = {"Aves": ["Ardea alba"], "Insecta": ["<script>alert(1)</script>", "Œdipoda & cœrulescens"]}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    rows = []
    for group, names in NAMES.items():
        for species in names:
            for i in range(5):
                path = f"{group}/{len(rows):02}.jpg"
                (tmp_path / "photos" / group).mkdir(parents=True, exist_ok=True)
                draw_photo(len(rows)).save(tmp_path / "photos" / path)
                rows.append((path, group, species, ("train", "train", "train", "val", "test")[i], f"{len(rows)}", True))
    table = pd.DataFrame(rows, columns=["image_path", "group", "species", "split", "sha256", "ok"])
    return Manifest(table, tmp_path / "photos", LabelSpace(()), 0)


def names(manifest: Manifest, groups: list[str], overlaps: dict[str, Overlap], per_species: int) -> list[str]:
    return [picture.file for picture in pictures(manifest, groups, overlaps, per_species, {})]


def test_what_is_drawn(manifest: Manifest, tmp_path: Path) -> None:
    assert names(manifest, ["Insecta"], {}, 0) == [
        "splits.png", "cdf.png", "ppf.png", "Insecta_bar.png", "Insecta_cumulative.png"
    ]  # fmt: skip
    more = names(manifest, ["Aves", "Insecta"], {"Aves": Overlap(1, 1, 1)}, 2)
    assert {"venn.png", "venn_groups.png", "cumulative.png", "Aves_examples_001.jpg"} <= set(more)
    assert len(more) == len(set(more))
    source = {"Aves": {f"Aves {i}": i + 1 for i in range(1021)}}
    found = [picture for picture in pictures(manifest, ["Aves"], {}, 0, source) if picture.file.startswith("source")]
    assert [picture.file for picture in found] == ["source_Aves_bar.png", "source_Aves_cumulative.png"]
    draw(found, tmp_path / "plots", workers=1)
    with Image.open(tmp_path / "plots" / "source_Aves_bar.png") as drawn:
        assert max(drawn.size) < 3000  # 1,021 species on one page, their middle summed up


def test_an_empty_group_has_its_pictures_too(manifest: Manifest, tmp_path: Path) -> None:
    wanted = [p for p in pictures(manifest, ["Fungi"], {}, 2, {}) if p.file.startswith("Fungi")]
    draw(wanted, tmp_path / "plots", workers=1)
    assert (tmp_path / "plots" / "Fungi_bar.png").is_file()
    assert "Fungi_examples_001.jpg" not in [picture.file for picture in wanted]


def test_the_files_do_not_depend_on_the_number_of_processes(manifest: Manifest, tmp_path: Path) -> None:
    wanted = [p for p in pictures(manifest, ["Insecta"], {"Insecta": Overlap(1, 1, 1)}, 2, {}) if "_" in p.file]
    assert [p.file for p in wanted] == [
        "venn_groups.png", "Insecta_bar.png", "Insecta_cumulative.png", "Insecta_examples_001.jpg"
    ]  # fmt: skip
    for workers in (1, 2):
        draw(wanted, tmp_path / str(workers), workers)
    made = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert made == sorted(picture.file for picture in wanted)
    for name in made:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name


# examples sheets ----------------------------------------------------------------------------------------------------


def test_examples_are_train_photos_drawn_by_seed(manifest: Manifest) -> None:
    first, again, other = (choose(manifest.rows, manifest.root, 2, seed) for seed in (0, 0, 1))
    assert first == again != other
    train = set(manifest.part("train")["image_path"])
    for one in first:
        assert one.photos == 5
        assert len(one.chosen) == 2
        assert {str(path.relative_to(manifest.root)) for path in one.chosen} <= train
    assert choose(manifest.rows.sample(frac=1, random_state=3), manifest.root, 2, 0) == first


def test_a_species_without_train_photos_keeps_its_name(manifest: Manifest) -> None:
    only_test = manifest.rows[manifest.rows["split"] == "test"]
    assert [one.chosen for one in choose(only_test, manifest.root, 2, 0)] == [(), (), ()]
    assert choose(only_test.iloc[:0], manifest.root, 2, 0) == []


def test_the_sheet_shows_the_photos_and_a_grey_tile_for_an_unreadable_one(tmp_path: Path) -> None:
    Image.new("RGB", (50, 40), (200, 30, 30)).save(tmp_path / "red.png")
    (tmp_path / "broken.jpg").write_text("not a photo")
    sheet([Examples("A <b>", 7, (tmp_path / "red.png", tmp_path / "broken.jpg"))], 2, "Title", tmp_path / "sheet.jpg")
    with Image.open(tmp_path / "sheet.jpg") as image:
        assert image.format == "JPEG"
        pixels = np.asarray(image).reshape(-1, 3).astype(int)
    side = examples.SIDE**2
    assert (abs(pixels - (200, 30, 30)).max(axis=1) < 30).sum() > 0.95 * side
    assert (abs(pixels - (211, 211, 211)).max(axis=1) < 10).sum() > 0.8 * side


def test_many_species_take_many_sheets(manifest: Manifest) -> None:
    rows = pd.concat([manifest.rows.assign(species=f"species {i}", group="Insecta") for i in range(50)])
    many = Manifest(rows, manifest.root, manifest.labels, 0)
    assert [name for name in names(many, ["Insecta"], {}, 1) if "examples" in name] == [
        f"Insecta_examples_{i:03}.jpg" for i in (1, 2, 3)
    ]


def test_long_names_are_shortened_to_fit() -> None:
    small = font(12)
    text = fitting("Ombrophila" * 10, "  1,234", 200, small)
    assert text.endswith("…  1,234")
    assert small.getlength(text) <= 200
    assert fitting("Apis mellifera", "  7", 200, small) == "Apis mellifera  7"


def test_without_the_font_pillow_has_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(examples, "FONT", tmp_path / "no.ttf")
    sheet([Examples("Œdipoda", 7, ())], 2, "Title", tmp_path / "sheet.jpg")
    assert (tmp_path / "sheet.jpg").is_file()
