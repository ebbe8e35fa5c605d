"""Photos placed in the regional data set: copied or linked, once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pipeline.dataset.copying import place
from pipeline.dataset.formats.folder import Photo, folders, scan


@pytest.fixture
def listed(photos: Path) -> list[Photo]:
    return scan(photos, folders(photos, ["Aves", "Insecta"]))[0]


@pytest.fixture
def dst(tmp_path: Path) -> Path:
    return tmp_path / "dst"


def kind(source: Path, target: Path) -> str:
    if target.is_symlink():
        return "symlink"
    return "hardlink" if target.stat().st_ino == source.stat().st_ino else "copy"


MODES = {"copy": "copied", "hardlink": "linked", "symlink": "linked"}


@pytest.mark.parametrize("mode", MODES)
def test_every_photo_is_placed_and_the_second_run_keeps_it(
    photos: Path, dst: Path, listed: list[Photo], mode: str
) -> None:
    assert place(listed, photos, dst, mode) == {MODES[mode]: 34}
    for photo in listed:
        assert (dst / photo.path).read_bytes() == (photos / photo.path).read_bytes()
        assert kind(photos / photo.path, dst / photo.path) == mode
    assert place(listed, photos, dst, mode) == {"kept": 34}


@pytest.mark.parametrize("mode", MODES)
def test_only_what_is_missing_or_changed_is_placed_again(
    photos: Path, dst: Path, listed: list[Photo], mode: str
) -> None:
    place(listed, photos, dst, mode)
    (dst / listed[0].path).unlink()
    (dst / listed[1].path).unlink()
    (dst / listed[1].path).write_bytes(b"half a pho")
    assert place(listed, photos, dst, mode) == {MODES[mode]: 2, "kept": 32}
    assert (dst / listed[1].path).read_bytes() == (photos / listed[1].path).read_bytes()


@pytest.mark.parametrize("first", MODES)
@pytest.mark.parametrize("second", MODES)
def test_another_mode_takes_effect(photos: Path, dst: Path, listed: list[Photo], first: str, second: str) -> None:
    place(listed[:2], photos, dst, first)
    place(listed[:2], photos, dst, second)
    accepted = {second, "copy"} if second == "hardlink" else {second}  # a whole copy stands in for a hard link
    assert {kind(photos / photo.path, dst / photo.path) for photo in listed[:2]} <= accepted


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP])
def test_hard_link_that_the_file_system_refuses_becomes_a_copy(
    photos: Path, dst: Path, listed: list[Photo], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, "refused")

    monkeypatch.setattr(os, "link", refuse)
    assert place(listed[:3], photos, dst, "hardlink") == {"copied": 3}
    assert place(listed[:3], photos, dst, "hardlink") == {"kept": 3}
    assert kind(photos / listed[0].path, dst / listed[0].path) == "copy"


def test_full_disk_is_no_reason_to_copy(
    photos: Path, dst: Path, listed: list[Photo], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space left"):
        place(listed, photos, dst, "hardlink")


@pytest.mark.parametrize("mode", MODES)
def test_same_folder_is_left_alone(photos: Path, listed: list[Photo], mode: str) -> None:
    before = {photo.path: (photos / photo.path).stat() for photo in listed}
    assert place(listed, photos, photos / ".." / photos.name, mode) == {"kept": 34}
    assert {photo.path: (photos / photo.path).stat() for photo in listed} == before


@pytest.mark.parametrize("mode", MODES)
def test_folder_that_links_back_to_the_photos_is_left_alone(
    photos: Path, dst: Path, listed: list[Photo], mode: str
) -> None:
    dst.mkdir()
    for group in ("Aves", "Insecta"):
        (dst / group).symlink_to(photos / group)
    assert place(listed, photos, dst, mode) == {"kept": 34}
    assert not any((photos / photo.path).is_symlink() for photo in listed)


@pytest.mark.parametrize("mode", MODES)
def test_photos_that_are_links_themselves_arrive_whole(tmp_path: Path, photos: Path, dst: Path, mode: str) -> None:
    folder = tmp_path / "links" / "Aves" / "Pica pica"
    folder.mkdir(parents=True)
    (folder / "a.jpg").symlink_to("../../../photos/Aves/Pica pica/000.jpg")
    place([Photo("Aves/Pica pica/a.jpg", "Aves", "Pica pica")], tmp_path / "links", dst / "deeper", mode)
    assert (dst / "deeper/Aves/Pica pica/a.jpg").read_bytes() == (photos / "Aves/Pica pica/000.jpg").read_bytes()


def test_relative_source_makes_symlinks_that_hold(
    photos: Path, dst: Path, listed: list[Photo], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    place(listed, Path("photos"), Path("dst"), "symlink")
    monkeypatch.chdir("/")
    assert (dst / listed[0].path).is_file()


def test_names_stay_as_they_are(tmp_path: Path, dst: Path) -> None:
    path = "Aves/Aphis sp. é:*?/" + "x" * 200 + ".jpg"
    (tmp_path / "src" / path).parent.mkdir(parents=True)
    (tmp_path / "src" / path).write_bytes(b"x")
    for mode in MODES:
        place([Photo(path, "Aves", "Aphis sp.")], tmp_path / "src", dst / mode, mode)
        assert (dst / mode / path).read_bytes() == b"x"
