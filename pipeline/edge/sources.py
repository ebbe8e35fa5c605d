"""Sources of photos: files and folders, a list, a watched folder, the camera."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from .errors import BundleError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
GONE = (-1, -1)


def find(given: Iterable[str]) -> Iterator[Path]:
    """The named files, and the photos in the named folders and below, sorted, without hidden ones."""
    for name in given:
        if not os.path.isdir(name):
            yield Path(name)
        for folder, below, files in os.walk(name, onerror=_raise):
            below[:] = sorted(inner for inner in below if not inner.startswith("."))
            # Macs leave a ._photo.jpg beside photo.jpg
            photos = sorted(file for file in files if file.lower().endswith(EXTENSIONS) and file[0] != ".")
            yield from (Path(folder, file) for file in photos)


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):  # gone since it was listed; a file
        raise error  # by default os.walk silently skips unreadable folders


def listed(name: str) -> Iterator[Path]:
    """The paths in a text file, one a line; "-" reads them from stdin as they come."""
    with open(name if name != "-" else 0, encoding="utf-8", errors="surrogateescape", closefd=name != "-") as lines:
        yield from (Path(line.rstrip("\r\n")) for line in lines if line.strip())


def watched(given: list[str], seconds: float) -> Iterator[Path]:
    """The photos in the folders, for ever; one that is still being written waits for the next look. A photo comes again at
    each look until it is settled, in case it was not whole before."""
    before: dict[Path, tuple[int, int]] = {}
    told: set[Path] = set()
    while True:
        now = {path: state(path) for path in find(given) if path not in told}
        still = [path for path, seen in now.items() if before.get(path) == seen != GONE]
        told.update(path for path in still if settled(now[path]))
        yield from still
        before = now
        time.sleep(seconds)


def settled(seen: tuple[int, int]) -> bool:
    """Whether nobody writes on a file of this state any more: its last change is a minute ago."""
    return abs(time.time_ns() - seen[1]) > 60e9


def state(path: Path | str) -> tuple[int, int]:
    """Size in bytes and modification time, which tell a changed file; GONE where there is no such file (any more)."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: no name that a file can have
        return GONE
    return found.st_size, found.st_mtime_ns


def camera(folder: Path, seconds: float) -> Iterator[Path]:
    """Photos that the Pi's camera takes and keeps in `folder`, for ever; a camera that vanishes is a BundleError."""
    try:
        from picamera2 import Picamera2  # type: ignore[import-not-found]  # on a Pi only

        with Picamera2() as device:
            device.start(device.create_still_configuration())
            while True:
                path = folder / f"{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**9:09}.jpg"
                try:
                    device.capture_file(str(path), wait=30.0)  # seconds; else it waits for ever
                except (TimeoutError, KeyboardInterrupt):
                    device.cancel_all_and_flush()  # else closing would wait behind the shot that never comes
                    raise
                yield path
                time.sleep(seconds)
    except (ImportError, ValueError) as error:  # ValueError: the system's simplejpeg was built for an older numpy
        missing = isinstance(error, ModuleNotFoundError)
        fix = "sudo apt install python3-picamera2" if missing else "pip install --force-reinstall --no-deps simplejpeg"
        raise BundleError(f"the camera needs picamera2 ({error}); run: {fix}") from error
    # what picamera2 raises where there is no camera (any more)
    except (RuntimeError, IndexError, TimeoutError) as error:
        raise BundleError(f"the camera does not answer ({error!r}); check its cable, then start again") from error
