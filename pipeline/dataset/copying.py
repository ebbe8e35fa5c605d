"""Bring the matched photos into the regional data set: copy, hard link or symbolic link; run again, it does the rest."""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pipeline.dataset.formats.folder import Photo
from pipeline.files import replacing


def place(photos: Iterable[Photo], src: Path, dst: Path, mode: str) -> Counter[str]:
    """Place each photo at the same relative path below dst; counts of "copied", "linked", "kept" (was right already).

    A hard link that the file systems refuse becomes a copy. The paths are those of a directory listing, so no part of
    one can be ".." or hold a slash.
    """
    counts: Counter[str] = Counter()
    for photo in photos:
        source, target = src / photo.path, dst / photo.path
        counts["kept" if placed(source, target, mode) else place_one(source, target, mode)] += 1
    return counts


def placed(source: Path, target: Path, mode: str) -> bool:
    """Whether target already is what `mode` makes of source; also where both are the same folder."""
    if not target.exists():
        return False
    if target.parent.samefile(source.parent):
        return True
    if mode == "symlink":
        return target.is_symlink() and target.samefile(source)
    a, b = source.stat(), target.stat()
    same_file = (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
    alike = (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns)
    return not target.is_symlink() and (alike and not same_file if mode == "copy" else alike or same_file)


def place_one(source: Path, target: Path, mode: str) -> str:
    """Place one photo, whatever is there; returns "copied" or "linked"."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if mode == "copy":
        return _copy(source, target)
    target.unlink(missing_ok=True)
    if mode == "symlink":
        target.symlink_to(source.resolve())
        return "linked"
    try:
        os.link(source.resolve(), target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        return _copy(source, target)
    return "linked"


def _copy(source: Path, target: Path) -> str:
    with replacing(target) as temporary:
        shutil.copy2(source, temporary)
    return "copied"
