"""Archives: what is in them arrives, and nothing bad gets out of them."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import IO

import pytest

from pipeline.dataset import archives
from pipeline.dataset.archives import Member, extract, is_archive, unpack
from pipeline.errors import DataError


def make_tar(path: Path, *entries: tuple[str, bytes], mode: str = "w:gz", **special: object) -> Path:
    """A tar of files, and of one entry with special attributes."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_600_000_000
            tar.addfile(info, io.BytesIO(data))
        if special:
            info = tarfile.TarInfo("special")
            for key, value in special.items():
                setattr(info, key, value)
            tar.addfile(info)
    return path


def names(archive: Path, wanted: set[str] | None = None) -> dict[str, bytes]:
    taken: dict[str, bytes] = {}

    def take(member: Member, data: IO[bytes]) -> None:
        taken[member.name] = data.read()

    extract(archive, take, wanted)
    return taken


@pytest.mark.parametrize(("ending", "mode"), [("tar.gz", "w:gz"), ("tgz", "w:gz"), ("tar", "w")])
def test_tar_arrives_whole_once(tmp_path: Path, ending: str, mode: str) -> None:
    archive = make_tar(tmp_path / f"set.{ending}", ("./a/1.jpg", b"one"), ("a/2.jpg", b"two"), mode=mode)
    assert is_archive(archive)
    assert unpack(archive) == tmp_path / "set" / "a"
    assert (tmp_path / "set/a/1.jpg").read_bytes() == b"one"
    (tmp_path / "set/a/1.jpg").write_bytes(b"mine")
    unpack(archive)
    assert (tmp_path / "set/a/1.jpg").read_bytes() == b"mine"


def test_an_archive_that_has_changed_is_unpacked_anew(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "set.tar", ("a/1.jpg", b"one"), ("a/2.jpg", b"two"), mode="w")
    unpack(archive)
    make_tar(archive, ("a/1.jpg", b"new"), mode="w")
    os.utime(archive, (1, 1))
    assert unpack(archive) == tmp_path / "set" / "a"
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "set/a").iterdir()] == [("1.jpg", b"new")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "set.tar"]


def test_a_folder_of_the_archive_s_name_that_was_not_made_from_it_is_left_alone(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "set.tar", ("1.jpg", b"one"), mode="w")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/mine.jpg").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"set is where .*set\.tar would be unpacked, and was not made from it"):
        unpack(archive)
    assert (tmp_path / "set/mine.jpg").read_bytes() == b"mine"


def test_what_a_mac_adds_to_a_zip_is_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as zipped:
        for name in ("photos/Aves/a/1.jpg", "__MACOSX/photos/Aves/a/._1.jpg", "__MACOSX/._photos"):
            zipped.writestr(name, b"one")
    assert unpack(tmp_path / "set.zip") == tmp_path / "set" / "photos"
    assert not (tmp_path / "set" / "__MACOSX").exists()


@pytest.mark.parametrize(
    ("patch", "reason"), [((6, b"\x01"), "password required"), ((8, b"\x61"), "compression method is not supported")]
)
def test_a_zip_that_python_cannot_unpack_says_why(tmp_path: Path, patch: tuple[int, bytes], reason: str) -> None:
    path, (offset, value) = tmp_path / "set.zip", patch
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("1.jpg", b"one")
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\x01\x02")
    for place in (offset, central + offset + 2):  # the fields in both headers
        data[place : place + 1] = value
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"set.zip cannot be unpacked .*{reason}.*unpack it yourself"):
        unpack(path)
    assert not (tmp_path / "set").exists()


def test_zip_arrives_whole(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as zipped:
        zipped.writestr("x/1.jpg", b"one")
        zipped.writestr("2.jpg", b"two")
    assert unpack(tmp_path / "set.zip") == tmp_path / "set"
    assert (tmp_path / "set/x/1.jpg").read_bytes() == b"one"


def test_only_the_wanted_files_and_no_further_than_needed(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar.gz", ("a", b"1"), ("b", b"2"), ("../bad", b"3"))
    assert names(archive, {"b"}) == {"b": b"2"}


BAD_NAMES = ["/etc/passwd", "../out.jpg", "a/../../out.jpg", "a/./b.jpg", "a\\..\\out.jpg"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_tar_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    archive = make_tar(tmp_path / "set.tar", (name, b"x"), mode="w")
    with pytest.raises(DataError, match="which is no path below its folder; do not trust that file"):
        unpack(archive)
    assert not (tmp_path / "set").exists()
    assert not (tmp_path / "out.jpg").exists()


@pytest.mark.parametrize("name", BAD_NAMES)
def test_zip_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as zipped:
        zipped.writestr(name, b"x")
    with pytest.raises(DataError, match="which is no path below its folder"):
        unpack(tmp_path / "set.zip")


@pytest.mark.parametrize(
    "special",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.SYMTYPE, "linkname": "../.."},
        {"type": tarfile.LNKTYPE, "linkname": "../../secret"},
        {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3},
        {"type": tarfile.FIFOTYPE},
    ],
    ids=["absolute link", "link out", "hard link out", "device", "pipe"],
)
def test_links_and_special_files_are_refused(tmp_path: Path, special: dict[str, object]) -> None:
    archive = make_tar(tmp_path / "set.tar.gz", ("a.jpg", b"x"), **special)
    with pytest.raises(DataError, match="holds 'special', which is neither file nor folder; do not trust it"):
        unpack(archive)
    assert not (tmp_path / "set").exists()


def test_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as zipped:
        zipped.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="neither file nor folder"):
        unpack(tmp_path / "set.zip")


@pytest.mark.parametrize(("limit", "value"), [("MAX_MEMBERS", 1), ("MAX_MEMBER", 2), ("MAX_TOTAL", 5)])
def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    archive = make_tar(tmp_path / "set.tar.gz", ("a.jpg", b"xxx"), ("b.jpg", b"xxx"))
    monkeypatch.setattr(archives, limit, value)
    with pytest.raises(DataError, match="is larger than a set of photos can be, at [ab].jpg"):
        unpack(archive)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.2, 0.5, 0.6, 0.8, 0.85, "header"])
def test_cut_or_empty_archive_says_so(tmp_path: Path, keep: float | str, mode: str) -> None:
    """Also where the cut falls between two files."""
    ending = "tar" if mode == "w" else "tar.gz"
    whole = make_tar(tmp_path / f"set.{ending}", *((f"{i}.jpg", os.urandom(600)) for i in range(40)), mode=mode)
    data = whole.read_bytes()
    cut = 10 * 1536 if isinstance(keep, str) else int(keep * len(data))
    whole.write_bytes(data[:cut])
    with pytest.raises(DataError, match="is damaged or no archive"):
        unpack(whole)
    assert not (tmp_path / "set").exists()


def test_damaged_zip_says_so(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as zipped:
        zipped.writestr("x.jpg", b"content" * 50)
    data = bytearray((tmp_path / "set.zip").read_bytes())
    data[60] ^= 1
    (tmp_path / "set.zip").write_bytes(data)
    with pytest.raises(DataError, match="is damaged or no archive"):
        unpack(tmp_path / "set.zip")


def test_killed_unpacking_is_started_anew(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "set.tar", ("a/1.jpg", b"one"), ("b/2.jpg", b"two"), mode="w")
    (tmp_path / ".set.tmp/a").mkdir(parents=True)
    (tmp_path / ".set.tmp/a/1.jpg").write_bytes(b"o")
    assert unpack(archive) == tmp_path / "set"
    assert (tmp_path / "set/a/1.jpg").read_bytes() == b"one"
    assert not (tmp_path / ".set.tmp").exists()
