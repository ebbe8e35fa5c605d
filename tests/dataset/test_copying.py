"""Photos placed in the regional data set: copied or linked, once."""

from __future__ import annotations

import errno
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from killing import MOMENTS, files, killed_at, moments_of

from pipeline.dataset import copying
from pipeline.dataset.copying import place, place_from_archive, placed
from pipeline.dataset.formats.base import Photo, Want
from pipeline.dataset.formats.folder import read
from pipeline.errors import DataError


@pytest.fixture
def listed(photos: Path) -> list[Photo]:
    return read(photos, Want(("Aves", "Insecta"))).photos


@pytest.fixture
def dst(tmp_path: Path) -> Path:
    return tmp_path / "dst"


def kind(source: Path, target: Path) -> str:
    if target.is_symlink():
        return "symlink"
    return "hardlink" if target.stat().st_ino == source.stat().st_ino else "copy"


MODES = {"copy": "copied", "hardlink": "linked", "symlink": "linked"}  # reflink needs a file system that can


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
    (dst / listed[0].path).parent.mkdir(parents=True)
    (dst / listed[0].path).write_bytes(b"something else")
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


@pytest.mark.parametrize("exact", [False, True])
def test_wrong_content_of_the_same_size_and_time_is_found_by_its_hash(
    photos: Path, dst: Path, listed: list[Photo], exact: bool
) -> None:
    place(listed, photos, dst, "copy")
    target = dst / listed[0].path
    before = target.stat()
    data = bytearray(target.read_bytes())
    data[200] ^= 255
    target.write_bytes(data)
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    counts = place(listed, photos, dst, "copy", exact)
    assert counts == ({"copied": 1, "kept": 33} if exact else {"kept": 34})
    assert (target.read_bytes() == (photos / listed[0].path).read_bytes()) == exact


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY])
def test_reflink_that_the_file_system_refuses_becomes_a_copy_with_a_note(
    photos: Path,
    dst: Path,
    listed: list[Photo],
    monkeypatch: pytest.MonkeyPatch,
    lines: Callable[[], list[str]],
    code: int,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, "refused")

    monkeypatch.setattr(copying.fcntl, "ioctl", refuse)
    assert place(listed[:3], photos, dst, "reflink") == {"copied": 3}
    assert lines() == ["  the file system cannot share blocks (reflink), so 3 photos were copied"]
    assert place(listed[:3], photos, dst, "reflink") == {"kept": 3}


def test_reflink_shares_blocks_where_it_can(
    photos: Path, dst: Path, listed: list[Photo], monkeypatch: pytest.MonkeyPatch
) -> None:
    def clone(out: int, request: int, data: int) -> None:  # what such a file system does, but for the sharing
        assert request == 0x40049409
        os.sendfile(out, data, 0, os.fstat(data).st_size)

    monkeypatch.setattr(copying.fcntl, "ioctl", clone)
    assert place(listed, photos, dst, "reflink") == {"linked": 34}
    assert (dst / listed[5].path).read_bytes() == (photos / listed[5].path).read_bytes()
    assert place(listed, photos, dst, "reflink") == {"kept": 34}


@pytest.mark.parametrize("mode", MODES)
def test_folders_that_come_in_turns_and_large_photos_arrive_whole(
    tmp_path: Path, dst: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "CHUNK", 1000)  # so that a photo takes several reads
    photos = [Photo(f"{folder}/{n}.jpg", "A", "x") for n in range(40) for folder in ("A/x", "A/y", "A/z")]
    for n, photo in enumerate(photos):
        (tmp_path / "src" / photo.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "src" / photo.path).write_bytes(bytes([n]) * (37 * n))
    assert place(photos, tmp_path / "src", dst, mode) == {MODES[mode]: 120}
    assert all((dst / photo.path).read_bytes() == bytes([n]) * (37 * n) for n, photo in enumerate(photos))
    assert placed(photos, tmp_path / "src", dst, mode)
    (dst / photos[50].path).unlink()
    assert not placed(photos, tmp_path / "src", dst, mode)
    assert not list(dst.rglob(".*"))


def test_photos_come_out_of_an_archive_once(photos: Path, dst: Path, listed: list[Photo], tmp_path: Path) -> None:
    archive = tmp_path / "photos.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(photos, ".")
    assert place_from_archive(listed[:20], archive, dst) == {"copied": 20}
    assert (dst / listed[7].path).read_bytes() == (photos / listed[7].path).read_bytes()
    assert not (dst / listed[21].path).exists()
    (dst / listed[7].path).unlink()
    assert place_from_archive(listed[:20], archive, dst) == {"copied": 1, "kept": 19}


def test_photos_of_a_changed_archive_arrive(photos: Path, dst: Path, listed: list[Photo], tmp_path: Path) -> None:
    def pack() -> Path:
        with tarfile.open(tmp_path / "photos.tar", "w") as tar:
            tar.add(photos, ".")
        return tmp_path / "photos.tar"

    place_from_archive(listed, pack(), dst)
    source, target = (folder / listed[7].path for folder in (photos, dst))
    source.write_bytes(b"another photo")
    assert place_from_archive(listed, pack(), dst) == {"copied": 1, "kept": 33}
    assert target.read_bytes() == b"another photo"
    modified = target.stat().st_mtime_ns
    target.write_bytes(b"another phot0")
    os.utime(target, ns=(modified, modified))
    assert place_from_archive(listed, tmp_path / "photos.tar", dst) == {"kept": 34}
    assert place_from_archive(listed, tmp_path / "photos.tar", dst, exact=True) == {"copied": 1, "kept": 33}
    assert target.read_bytes() == b"another photo"


def test_photos_of_an_archive_are_whole_or_not_there_whenever_it_is_killed(
    photos: Path, dst: Path, listed: list[Photo], tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(photos, ".")

    def work() -> None:
        place_from_archive(listed, tmp_path / "photos.tar", dst)

    moments = moments_of(work)
    assert len(moments) == MOMENTS
    whole = files(dst)
    for moment in moments:
        shutil.rmtree(dst, ignore_errors=True)
        assert killed_at(moment, work)
        there = {path: data for path, data in files(dst).items() if not path.endswith(copying.TEMPORARY)}
        assert there.items() <= whole.items()
        work()
        assert files(dst) == whole


def test_archive_without_a_listed_photo_names_it(photos: Path, dst: Path, listed: list[Photo], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(photos / "Aves", "Aves")
    with pytest.raises(DataError, match=r"lacks 24 of the photos listed, e\.g\. Insecta/Apis mellifera/000\.jpg"):
        place_from_archive(listed, tmp_path / "photos.tar", dst)
