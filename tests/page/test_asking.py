"""What the page says is what the bundle says; the heat map finds what matters."""

from __future__ import annotations

import csv
import io
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy import COLOURS, GREY, Experiment, cache_colours, write_cascade, write_photo

from pipeline.dataset.manifest import Manifest, experiment_manifest
from pipeline.edge.cascade import UNKNOWN, Cascade, load_cascade
from pipeline.edge.classify import main as classify
from pipeline.edge.errors import UnreadableImage
from pipeline.edge.labels import OTHER
from pipeline.edge.recipe import Recipe
from pipeline.edge.results import COLUMNS
from pipeline.page import occlusion, photos
from pipeline.page.asking import as_csv, ask, reasons, seen

CACHE = ("cache", cache_colours("Apis mellifera", "Vanessa atalanta"), 0.5)


@pytest.fixture
def cascade(tmp_path: Path) -> Cascade:
    return load_cascade(write_cascade(tmp_path / "bundle", [CACHE, ("main", COLOURS, 0.0)]))


def photo(name: str, tmp_path: Path) -> bytes:
    return write_photo(tmp_path / "photo.png", COLOURS[name]).read_bytes()


# asking -------------------------------------------------------------------------------------------------------------


def test_the_answer_is_that_of_the_bundle_under_the_photos_name(cascade: Cascade, tmp_path: Path) -> None:
    content = photo("Zygène d'été", tmp_path)
    mine, its = ask(cascade, "field/été.png", content), cascade.classify(tmp_path / "photo.png")
    assert (mine.path, mine.species) == ("field/été.png", "Zygène d'été")
    assert (mine.species, mine.score, mine.stage, mine.topk) == (its.species, its.score, its.stage, its.topk)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK", "I;16", "F"])
def test_pictures_of_every_kind_get_an_answer(mode: str, cascade: Cascade) -> None:
    stored = io.BytesIO()
    image = Image.new("L", (40, 30), 200).convert(mode)
    image.save(stored, "TIFF")
    answer = ask(cascade, "photo.tif", stored.getvalue())
    assert (answer.status, answer.failures) == ("ok", [])


def test_a_turned_photo_is_asked_upright(cascade: Cascade) -> None:
    """The lower half is red, and EXIF tells to turn it around."""
    stored = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    image = Image.new("RGB", (64, 64), GREY)
    image.paste((255, 0, 0), (0, 32, 64, 64))
    image.save(stored, "PNG", exif=exif)
    ready = seen(cascade, cascade.stages[0], stored.getvalue())
    assert ready[0, 0].tolist() == [255, 0, 0] and ready[-1, -1].tolist() == list(GREY)


def test_broken_photos_get_a_sentence(cascade: Cascade, tmp_path: Path) -> None:
    whole = photo("Apis mellifera", tmp_path)
    for content, said in (
        (b"", "is no image in a format that Pillow knows"),
        (b"not a picture", "is no image in a format that Pillow knows"),
        (whole[:60], "cannot be decoded: "),
    ):
        answer = ask(cascade, "photo.jpg", content)
        assert answer.status == "failed"
        assert answer.failures[0].startswith(said)
        assert str(tmp_path) not in answer.failures[0]


def test_huge_photos_get_a_sentence(cascade: Cascade) -> None:
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", 20000, 11000, 8, 2, 0, 0, 0), b"IDAT")
    png = [struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks]
    answer = ask(cascade, "huge.png", b"\x89PNG\r\n\x1a\n" + b"".join(png))
    assert "exceeds limit of 200000000 pixels" in answer.failures[0]


@pytest.mark.parametrize("kind", ["eps", "ppm", "pcx"])
def test_formats_that_nobody_photographs_in_reach_no_decoder(kind: str, cascade: Cascade) -> None:
    """That of EPS would start another program."""
    stored = io.BytesIO()
    Image.new("RGB", (40, 40)).save(stored, kind)
    assert ask(cascade, "photo.jpg", stored.getvalue()).failures == ["is no image in a format that Pillow knows"]
    with pytest.raises(UnreadableImage, match="is no image in a format that Pillow knows"):
        seen(cascade, cascade.stages[0], stored.getvalue())


def test_an_upload_is_not_written_to_the_disk(
    cascade: Cascade, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = photo("Apis mellifera", tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert ask(cascade, "photo.png", content).status == "ok"


# reasons ------------------------------------------------------------------------------------------------------------


def test_reasons_name_every_stage_that_was_asked(cascade: Cascade, tmp_path: Path) -> None:
    content = photo("Pieris rapæ", tmp_path)
    first, second = reasons(cascade, content, ask(cascade, "photo", content))
    assert (first.stage.name, first.guess, first.answered) == ("cache", OTHER, False)
    assert (second.stage.name, second.guess, second.answered) == ("main", "Pieris rapæ", True)
    content = photo("Apis mellifera", tmp_path)
    [only] = reasons(cascade, content, answer := ask(cascade, "photo", content))
    assert (only.guess, only.answered) == ("Apis mellifera", True)
    assert only.score == pytest.approx(answer.score)


def test_a_guess_below_the_threshold_is_no_answer(tmp_path: Path) -> None:
    strict = load_cascade(write_cascade(tmp_path / "bundle", [(*CACHE[:2], 0.999)]))
    content = photo("Apis mellifera", tmp_path)
    answer = ask(strict, "photo", content)
    [only] = reasons(strict, content, answer)
    assert answer.species == UNKNOWN
    assert (only.guess, only.answered) == ("Apis mellifera", False)
    assert only.score < 0.999


# many ---------------------------------------------------------------------------------------------------------------


def test_the_file_is_that_of_classify(packed: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = packed.root / "output" / "toy" / "bundle"
    files = [write_photo(tmp_path / f"{i}.png", colour) for i, colour in enumerate(COLOURS.values())]
    (tmp_path / "9.png").write_text("broken")
    files.append(tmp_path / "9.png")
    assert classify(folder, [*map(str, files), "--out", str(tmp_path / "its.csv")]) == 3
    cascade = load_cascade(folder)
    text = as_csv([ask(cascade, str(path), path.read_bytes()) for path in files]).decode()
    mine, its = (list(csv.DictReader(io.StringIO(one))) for one in (text, (tmp_path / "its.csv").read_text("utf-8")))
    assert tuple(mine[0]) == COLUMNS
    times = ("decode_ms", "preprocess_ms", "infer_ms")
    assert [{k: v for k, v in row.items() if k not in times} for row in mine] == [
        {k: v for k, v in row.items() if k not in times} for row in its
    ]
    assert mine[-1]["status"] == "failed"


# the heat map -------------------------------------------------------------------------------------------------------


def test_heat_is_where_the_photo_matters(cascade: Cascade) -> None:
    """A red corner on white: main says Apis mellifera for the red alone."""
    ready = np.full((32, 32, 3), 200, np.uint8)
    ready[:12, :12] = (255, 0, 0)
    found = occlusion.heat_map(cascade.stages[-1], ready, "Apis mellifera")
    assert found.heat.shape == (32, 32)
    assert found.heat.min() >= 0
    assert 0.9 < found.heat.max() <= 1
    assert np.unravel_index(found.heat.argmax(), (32, 32))[0] < 12
    assert found.heat[:12, :12].mean() > 5 * found.heat[16:, 16:].mean()
    assert found.least < found.before


def test_nothing_that_matters_is_no_heat(cascade: Cascade) -> None:
    """A photo as grey as the square: covering it changes nothing."""
    ready = np.full((32, 32, 3), 128, np.uint8)
    found = occlusion.heat_map(cascade.stages[0], ready, "Apis mellifera")
    assert found.heat.max() == 0
    assert found.least == found.before


def test_the_overlay_is_grey_without_heat_and_orange_with_it() -> None:
    ready = np.full((2, 2, 3), (10, 200, 30), np.uint8)
    heat = np.array([[0, 1], [0, 0]], np.float32)
    shown = occlusion.overlay(ready, heat)
    assert len(set(shown[0, 0].tolist())) == 1
    red, green, blue = shown[0, 1].tolist()
    assert red > green > blue


# photos of the experiment -------------------------------------------------------------------------------------------


@pytest.fixture
def manifest(experiment: Experiment) -> Manifest:
    return experiment_manifest(experiment.config())


def test_photos_are_drawn_by_seed_from_their_split_alone(manifest: Manifest) -> None:
    shown = photos.draw(manifest, "test", None, 6, 1)
    assert shown == photos.draw(manifest, "test", None, 6, 1) != photos.draw(manifest, "test", None, 6, 2)
    assert len(shown) == len(set(shown)) == 6
    test = set(manifest.part("test")["image_path"])
    assert {one.path.relative_to(manifest.root).as_posix() for one in shown} <= test
    assert {one.species for one in photos.draw(manifest, "test", "Pieris rapæ", 99, 0)} == {"Pieris rapæ"}


def test_photos_that_are_gone_or_broken_are_not_shown(manifest: Manifest) -> None:
    everything = photos.draw(manifest, "test", "Pieris rapæ", 99, 0)
    everything[0].path.unlink()
    assert photos.draw(manifest, "test", "Pieris rapæ", 99, 0) == everything[1:]
    everything[1].path.write_text("broken")
    assert photos.tile(everything[1].path) is None
    tile = photos.tile(everything[2].path)
    assert tile is not None and tile.shape == (Recipe().size, Recipe().size, 3)


def test_who_holds_the_rights_is_said_where_it_is_known(manifest: Manifest) -> None:
    assert {one.rights for one in photos.draw(manifest, "test", None, 99, 0)} == {""}
    manifest.rows["holder"], manifest.rows["licence"] = "A. Person", "CC BY 4.0"
    assert {one.rights for one in photos.draw(manifest, "test", None, 99, 0)} == {"A. Person, CC BY 4.0"}
