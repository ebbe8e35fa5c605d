"""Copy, link or re-encode the matched photos into the regional data set; another run continues where one was stopped.

What is right already is kept: the same file (links), or the same size and time of change, as rsync has it; with `exact`
the same SHA-256 too. Every file appears whole or not at all.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from pipeline.console import log
from pipeline.dataset.archives import Member, extract
from pipeline.dataset.formats.base import Photo
from pipeline.errors import DataError
from pipeline.files import sha256

FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file
REFUSED = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY)
THREADS = 2  # I/O-bound with the GIL released; more threads only contend
CHUNK = 1 << 24  # bytes of a photo read at a time
TEMPORARY = ".ommatidia.tmp"  # one per folder, so that what a killed run left is written over


def place(photos: Iterable[Photo], src: Path, dst: Path, mode: str, exact: bool = False) -> Counter[str]:
    """Place each photo at the same relative path below dst; counts of "copied", "linked", "kept" (was right already).

    mode: copy | hardlink | symlink | reflink. A link that the file systems refuse becomes a copy. The paths are those of
    a listing, so no part of one can be "..".
    """
    work = partial(_place_folder, mode=mode, exact=exact)
    with ThreadPoolExecutor(THREADS) as pool:
        counts = sum(pool.map(work, _folders(photos, src, dst)), Counter[str]())
    if mode == "reflink" and counts["copied"]:
        log.info("  the file system cannot share blocks (reflink), so %d photos were copied", counts["copied"])
    return counts


def placed(photos: Iterable[Photo], src: Path, dst: Path, mode: str, exact: bool = False) -> bool:
    """Whether each photo is already as `place` would make it."""
    return not any(_wrong(folder, mode, exact) for folder in _folders(photos, src, dst))


class _Folder(NamedTuple):
    source: str
    target: str
    names: list[str]


def _folders(photos: Iterable[Photo], src: Path, dst: Path) -> list[_Folder]:
    """The photos by folder; one thread per folder, so no two threads write to the same temporary name."""
    names: dict[str, list[str]] = {}
    for photo in photos:
        folder, _, name = photo.path.rpartition("/")
        names.setdefault(folder, []).append(name)
    return [_Folder(str(src / folder), str(dst / folder), members) for folder, members in names.items()]


def _place_folder(folder: _Folder, mode: str, exact: bool) -> Counter[str]:
    counts: Counter[str] = Counter()
    wrong = _wrong(folder, mode, exact)
    if wrong:
        os.makedirs(folder.target, exist_ok=True)
    for name in wrong:
        counts[_place(f"{folder.source}/{name}", f"{folder.target}/{name}", mode)] += 1
    counts["kept"] = len(folder.names) - len(wrong)
    return counts


def _wrong(folder: _Folder, mode: str, exact: bool) -> list[str]:
    """Names of photos that are not yet as `mode` would make them; none where both folders are the same."""
    source, target, names = folder
    if not os.path.isdir(target):
        return names
    if os.path.samefile(source, target):
        return []
    there = set(os.listdir(target))
    return [
        name for name in names if name not in there or not _right(f"{source}/{name}", f"{target}/{name}", mode, exact)
    ]


def _right(source: str, target: str, mode: str, exact: bool) -> bool:
    found = os.lstat(target)
    is_link = stat.S_ISLNK(found.st_mode)
    if mode == "symlink":
        return is_link and os.path.exists(target) and os.path.samefile(target, source)
    if is_link:
        return False
    wanted = os.stat(source)
    if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
        return mode == "hardlink"
    alike = (found.st_size, found.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns)
    return alike and (not exact or sha256(Path(source)) == sha256(Path(target)))


def place_one(source: Path, target: Path, mode: str) -> str:
    """Place one photo, replacing whatever exists; returns "copied" or "linked"."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return _place(str(source), str(target), mode)


def _place(source: str, target: str, mode: str) -> str:
    if mode == "copy":
        return _copy(source, target)
    link = {"symlink": _symlink, "hardlink": _hardlink, "reflink": _reflink}[mode]
    try:
        try:
            link(source, target)
        except FileExistsError:
            os.unlink(target)
            link(source, target)
    except OSError as error:
        if mode == "symlink" or error.errno not in REFUSED:
            raise
        return _copy(source, target)
    return "linked"


def _symlink(source: str, target: str) -> None:
    os.symlink(os.path.realpath(source), target)


def _hardlink(source: str, target: str) -> None:
    os.link(os.path.realpath(source) if os.path.islink(source) else source, target)


def _reflink(source: str, target: str) -> None:
    temporary = _temporary(target)
    with open(source, "rb") as data, open(temporary, "wb") as out:
        fcntl.ioctl(out.fileno(), FICLONE, data.fileno())
    _finish(temporary, target, os.stat(source).st_mtime_ns)


def _copy(source: str, target: str) -> str:
    file = os.open(source, os.O_RDONLY)
    try:
        data = b"".join(iter(lambda: os.read(file, CHUNK), b""))
        modified_ns = os.fstat(file).st_mtime_ns
    finally:
        os.close(file)
    _write(data, target, modified_ns)
    return "copied"


def write(data: bytes, target: Path, modified_ns: int) -> None:
    """Write a photo's bytes atomically, with the modification time of its source."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _write(data, str(target), modified_ns)


def _write(data: bytes, target: str, modified_ns: int) -> None:
    """Copy by system calls, which take a fifth less time than Python's files for small photos."""
    temporary = _temporary(target)
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        while data:
            data = data[os.write(file, data) :]
    finally:
        os.close(file)
    _finish(temporary, target, modified_ns)


def _temporary(target: str) -> str:
    return f"{os.path.dirname(target)}/{TEMPORARY}"


def _finish(temporary: str, target: str, modified_ns: int) -> None:
    """Give a file its time and its name. It is not flushed to the disk: after a power cut the next run finds it wrong
    and makes it again, and waiting for the disk at each of a hundred thousand photos would take hours."""
    os.utime(temporary, ns=(modified_ns, modified_ns))
    os.replace(temporary, target)


def arrived(path: Path) -> bool:
    """Whether a photo of an archive exists; a power cut leaves an empty file."""
    return path.is_file() and path.stat().st_size > 0


def _is_file_of(path: Path, size: int, modified_ns: int) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and (found.st_size, found.st_mtime_ns) == (size, modified_ns)


def place_from_archive(photos: Iterable[Photo], archive: Path, dst: Path, exact: bool = False) -> Counter[str]:
    """Take photos out of an archive in one pass; one that it lacks is an error. What is right already is kept, by the
    rule of `place`."""
    left = {photo.path for photo in photos}
    counts: Counter[str] = Counter()

    def take(member: Member, data: IO[bytes]) -> None:
        target, modified = dst / member.name, member.modified * 10**9
        left.discard(member.name)
        alike = _is_file_of(target, member.size, modified)
        content = b"" if alike and not exact else data.read()
        if alike and (not exact or target.read_bytes() == content):
            counts["kept"] += 1
        else:
            write(content, target, modified)
            counts["copied"] += 1

    extract(archive, take, frozenset(left))
    if left:
        raise DataError(
            f"{archive} lacks {len(left)} of the photos listed, e.g. {min(left)}; is it the archive of them?"
        )
    return counts
