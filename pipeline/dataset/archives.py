"""Unpack tar and zip archives safely: only files and folders, no absolute path, no "..", no link, within limits."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from pipeline.dataset.formats.base import safe_path
from pipeline.errors import DataError
from pipeline.files import read_json, write_json

UNPACKED = ".unpacked.json"  # in the folder: size and modification time of the archive
ENDINGS = (".tar.gz", ".tgz", ".tar", ".zip")
MAC = "__MACOSX/"  # where Macs put what else they know of each file
MAX_MEMBERS = 10_000_000
MAX_MEMBER = 4 << 30  # bytes; the largest annotation file of iNaturalist 2021 has less than 2 GB
MAX_TOTAL = 1 << 40  # bytes; the train photos of iNaturalist 2021 have 224 GB


class Member(NamedTuple):
    name: str
    size: int
    modified: int  # seconds


Take = Callable[[Member, IO[bytes]], None]


def is_archive(path: Path) -> bool:
    """Whether it is a file with an archive's extension."""
    return path.name.lower().endswith(ENDINGS) and path.is_file()


def unpack(archive: Path) -> Path:
    """Unpack completely, once, into a folder beside the archive; returns the folder that holds the files.

    A killed call leaves no half folder: the folder gets its name when all is there. The folder remembers the archive: an
    archive that has changed is unpacked anew, and a folder that was not made from it is an error.
    """
    name = archive.name[: -len(next(end for end in ENDINGS if archive.name.lower().endswith(end)))]
    target = archive.with_name(name)
    state = archive.stat()
    told = {"size": state.st_size, "mtime_ns": state.st_mtime_ns}
    if not target.is_dir() or _made_from(target, archive) != told:
        temporary, old = archive.with_name(f".{name}.tmp"), archive.with_name(f".{name}.old.tmp")
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)
        temporary.mkdir()

        def take(member: Member, data: IO[bytes]) -> None:
            file = temporary / member.name
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("xb") as out:
                shutil.copyfileobj(data, out)

        extract(archive, take)
        write_json(temporary / UNPACKED, told)
        if target.is_dir():
            target.rename(old)
        temporary.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    inside = [entry for entry in target.iterdir() if not entry.name.startswith(".")]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else target


def _made_from(folder: Path, archive: Path) -> Any:
    if not (folder / UNPACKED).is_file():
        raise DataError(
            f"{folder} is where {archive} would be unpacked, and was not made from it; move one of them away, or set "
            "paths.src_dataset to the folder"
        )
    return read_json(folder / UNPACKED, "note of what was unpacked")


def extract(archive: Path, take: Take, wanted: Collection[str] | None = None) -> None:
    """Call `take` with each file of an archive, or with each wanted one, in one pass and in the archive's order.

    Every entry that is met is checked, wanted or not; a bad one is an error that names it. The pass ends with the last
    wanted file.
    """
    left = set(wanted) if wanted is not None else None
    entries = _zip if archive.name.lower().endswith(".zip") else _tar
    total = 0
    try:
        for n, (member, data) in enumerate(entries(archive), 1):
            total += member.size
            if n > MAX_MEMBERS or member.size > MAX_MEMBER or total > MAX_TOTAL:
                raise DataError(f"{archive} is larger than a set of photos can be, at {member.name}; do not trust it")
            if left is None or member.name in left:
                take(member, data)
            if left is not None:
                left.discard(member.name)
                if not left:
                    return
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise _damaged(archive, error) from error
    except RuntimeError as error:  # of zipfile: a password, or a compression that Python does not know
        raise DataError(f"{archive} cannot be unpacked ({error}); unpack it yourself and name the folder") from error
    except OSError as error:
        if error.errno is not None:
            raise  # an error of the disk, not of the archive
        raise _damaged(archive, error) from error


def _damaged(archive: Path, error: Exception) -> DataError:
    return DataError(f"{archive} is damaged or no archive ({error}); fetch it again")


def _tar(archive: Path) -> Iterator[tuple[Member, IO[bytes]]]:
    opened = gzip.open if archive.name.lower().endswith("gz") else open
    with opened(archive, "rb") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        while entry := tar.next():
            tar.members.clear()  # type: ignore[attr-defined]  # or it keeps them all
            name = _checked(entry.name, archive)
            if entry.isdir():
                continue
            data = tar.extractfile(entry) if entry.isreg() else None
            if data is None:
                raise DataError(f"{archive} holds {entry.name!r}, which is neither file nor folder; do not trust it")
            yield Member(name, entry.size, int(entry.mtime)), data
        _check_end(tar)


def _check_end(tar: tarfile.TarFile) -> None:
    """Accept the end of a tar only after two zero blocks and nothing else; tarfile takes any invalid header for it."""
    zeros = 0
    while rest := tar.fileobj.read(1 << 20):
        if rest.strip(b"\0"):
            raise tarfile.ReadError("bad header")
        zeros += len(rest)
    if zeros < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("cut short")


def _zip(archive: Path) -> Iterator[tuple[Member, IO[bytes]]]:
    with zipfile.ZipFile(archive) as zipped:
        for entry in zipped.infolist():
            name = _checked(entry.filename, archive)
            if entry.is_dir() or name.startswith(MAC):
                continue
            if entry.external_attr >> 28 not in (0, 0o10):  # the file type of Unix: 0o10 is a regular file
                raise DataError(
                    f"{archive} holds {entry.filename!r}, which is neither file nor folder; do not trust it"
                )
            with zipped.open(entry) as data:
                yield Member(name, entry.file_size, 0), data


def _checked(name: str, archive: Path) -> str:
    plain = name.removeprefix("./").rstrip("/")
    return safe_path(plain, archive) if plain not in ("", ".") else plain
