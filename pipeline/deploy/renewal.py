"""A newly built bundle takes the place of the former one; what people put beside our files stays as it is."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

from pipeline.files import sha256

CODE = ("edge", "field")  # folders


def room_beside(target: Path) -> Path:
    """An empty folder to build in; what a killed process left behind is mended first."""
    building, old = _names(target)
    if old.exists() and not target.exists():  # killed between the two renames below
        old.replace(target)
    for left_behind in (building, old):
        shutil.rmtree(left_behind, ignore_errors=True)
    building.mkdir(parents=True)
    return building


def take_place(building: Path, target: Path) -> bool:
    """Put what was built in the place of `target`; False, and all is left as it was, where it would be the same.

    What is neither ours nor was a former bundle's is carried over: results, photos, folders, links.
    """
    ours = [path for path in _below(building) if (building / path).is_file()]
    former = _models(target / "cascade.json")
    gone = [path for path in _below(target) if _was_ours(path, former) and not (building / path).exists()]
    if not gone and all(_same(building / path, target / path) for path in ours):
        shutil.rmtree(building)
        return False
    for path in ours:
        _to_disk(building / path)
    old = _names(target)[1]
    _carry(target, building, former)
    if target.exists():
        target.replace(old)
    building.replace(target)
    _carry(old, target, former)  # what came meanwhile
    shutil.rmtree(old, ignore_errors=True)
    return True


def _names(target: Path) -> tuple[Path, Path]:
    """What is being built, and what it replaces."""
    return target.with_name(f".{target.name}.tmp"), target.with_name(f".{target.name}.old")


def _below(folder: Path) -> list[Path]:
    """Relative paths of all below a folder, a folder before what is in it; but for what Python compiles when a bundle is
    tried on the spot. Links are not followed."""
    found: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=_raise) if folder.exists() else ():
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        found += (Path(place, name).relative_to(folder) for name in (*folders, *sorted(files)))
    return found


def _raise(error: OSError) -> None:
    raise error  # by default os.walk leaves out folders that cannot be read: they would be lost


def _models(description: Path) -> set[str]:
    """Names of the models that an older bundle's cascade.json names; none where it is broken or not there."""
    try:
        return {stage["file"] for stage in json.loads(description.read_text(encoding="utf-8"))["stages"]}
    except (OSError, ValueError, TypeError, KeyError):
        return set()


def _was_ours(path: Path, models: set[str]) -> bool:
    """Whether an older bundle may have held this file: one of its models, or code that now has another name."""
    return str(path) in models or (path.parts[0] in CODE and path.suffix == ".py")


def _same(built: Path, there: Path) -> bool:
    return there.is_file() and sha256(built) == sha256(there)


def _carry(old: Path, new: Path, models: set[str]) -> None:
    """Put into the new folder what people put into the old one."""
    for path in _below(old):
        if not (_was_ours(path, models) or os.path.lexists(new / path)):
            _put(old / path, new / path)


def _put(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
    elif source.is_dir():
        target.mkdir()
        target.chmod(source.stat().st_mode | stat.S_IRWXU)  # others may put photos there
    else:
        try:
            os.link(source, target)  # the very file: somebody may be writing results to it
        except OSError:  # a file system without such links
            shutil.copy2(source, target)
            _to_disk(target)


def _to_disk(path: Path) -> None:
    with path.open("rb") as written:
        os.fsync(written.fileno())
