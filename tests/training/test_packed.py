"""Packed photos are the decoded ones; what is made smaller is told."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import draw_photo

from pipeline.config import Config
from pipeline.edge.errors import UnreadableImage
from pipeline.edge.recipe import decode
from pipeline.files import sha256
from pipeline.training import packed
from pipeline.training.run import train_role

KNOWN = {"manifest": "m"}


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    files = [tmp_path / f"{i}.jpg" for i in range(5)]
    for i, file in enumerate(files):
        draw_photo(i, 300 - 40 * i, 100 + 30 * i).save(file)
    return files


def test_photos_are_kept_as_they_are_decoded(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(packed, "CHUNK", 2)
    store = packed.pack(tmp_path / "a.arrow", paths, KNOWN, 80, 0)
    again = pickle.loads(pickle.dumps(store))  # as a worker gets it
    for i, path in enumerate(paths):
        assert np.array_equal(np.asarray(store.photo(i)), np.asarray(decode(path, 80)))
        assert np.array_equal(np.asarray(again.photo(i)), np.asarray(store.photo(i)))
    assert (
        "pack      a.arrow: 5 photos decoded at a short side of 80 px, 0 of them made smaller (short side 0 px)"
        in lines()
    )


def test_large_photos_are_made_smaller_and_counted(
    paths: list[Path], tmp_path: Path, lines: Callable[[], list[str]]
) -> None:
    store = packed.pack(tmp_path / "a.arrow", paths, KNOWN, 0, 130)
    assert [min(store.photo(i).size) for i in range(5)] == [100, 130, 130, 130, 130]
    assert store.photo(2).size == (179, 130)
    assert "short side of any px, 3 of them made smaller (short side 130 px)" in lines()[-1]


def test_unreadable_photo_keeps_its_reason(paths: list[Path], tmp_path: Path) -> None:
    paths[1].write_text("no photo")
    with pytest.raises(UnreadableImage, match="is no image in a format that Pillow knows"):
        packed.pack(tmp_path / "a.arrow", paths, KNOWN, 0, 0).photo(1)


def test_store_is_written_once_and_again_for_other_photos(
    paths: list[Path], tmp_path: Path, lines: Callable[[], list[str]]
) -> None:
    for known in (KNOWN, KNOWN, {"manifest": "n"}):
        packed.pack(tmp_path / "a.arrow", paths, known, 0, 0)
    assert [line.partition(":")[0] for line in lines()] == [
        "pack      a.arrow",
        "pack      a.arrow up to date",
        "pack      a.arrow",
    ]


def test_training_from_large_enough_packed_photos_is_the_same_to_the_bit(
    toy: Callable[..., Config], tmp_path: Path
) -> None:
    quick: Any = ("main.epochs=1", "main.warmup_epochs=0")
    (plain,) = train_role(toy(*quick, "experiment=plain"), "main")
    config = toy(*quick, "experiment=packed", "main.packed=64", "main.workers=1")
    (stored,) = train_role(config, "main")
    assert sha256(plain / "weights.safetensors") == sha256(stored / "weights.safetensors")
    place = config.dataset_dir / "packed"
    (former,) = place.iterdir()
    assert len(list(former.glob("*.arrow"))) == 2
    written = {file: file.stat().st_mtime_ns for file in former.glob("*.arrow")}
    member = (*quick, "experiment=member", "main.packed=64", f"paths.dataset_dir={config.dataset_dir}")
    (another,) = train_role(toy(*member), "main")
    assert sha256(plain / "weights.safetensors") == sha256(another / "weights.safetensors")
    assert {file: file.stat().st_mtime_ns for file in former.glob("*.arrow")} == written
    assert not (config.output.with_name("member") / "packed").exists()
    place.joinpath("of_another_manifest").mkdir()
    train_role(toy(*quick, "experiment=packed", "main.packed=64", "global.overwrite=true"), "main")
    assert list(place.iterdir()) == [former]
