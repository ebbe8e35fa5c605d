"""Re-encode photos once to the size at which they are used."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from PIL import Image

from pipeline.console import progress
from pipeline.dataset.copying import write
from pipeline.dataset.formats.base import Photo
from pipeline.dataset.parallel import mapped
from pipeline.edge.errors import UnreadableImage
from pipeline.edge.recipe import Recipe, decode, view
from pipeline.errors import DataError
from pipeline.files import digest
from pipeline.sections.dataset import Store


def stored_path(path: str) -> str:
    """Path of a stored photo: the same, with .jpg added unless it has a JPEG's extension."""
    return path if path.lower().endswith((".jpg", ".jpeg")) else f"{path}.jpg"


def store(photos: Iterable[Photo], src: Path, dst: Path, settings: Store, workers: int = 0) -> Counter[str]:
    """Store each photo of src below dst; counts of "stored", "copied" (unreadable, left to the verification), "kept".

    One resampling (Lanczos) from the decoded photo, upright, EXIF dropped; the time of change is the source's, and the
    settings stand in the file's comment: that is how a photo that is stored already is known.
    """
    photos = list(photos)
    if dst.is_dir() and dst.samefile(src):
        raise DataError(f"dataset.store would write over the photos in {src}; set paths.dst_dataset to another folder")
    todo = list(unstored(photos, src, dst, settings))
    counts = Counter(kept=len(photos) - len(todo))
    made = mapped(partial(encode, settings=settings), [source for source, _ in todo], workers)
    for (source, target), data in progress(zip(todo, made, strict=True), len(todo), "store"):
        write(data if data is not None else source.read_bytes(), target, source.stat().st_mtime_ns)
        counts["copied" if data is None else "stored"] += 1
    return +counts


def unstored(photos: Iterable[Photo], src: Path, dst: Path, settings: Store) -> Iterator[tuple[Path, Path]]:
    """Source and target of each photo that is not stored with these settings yet."""
    for photo in photos:
        source, target = src / photo.path, dst / stored_path(photo.path)
        if not _is_stored(source, target, settings):
            yield source, target


def _is_stored(source: Path, target: Path, settings: Store) -> bool:
    if not target.is_file() or target.stat().st_mtime_ns != source.stat().st_mtime_ns:
        return False
    with target.open("rb") as file:
        if _tag(settings) in file.read(256):
            return True
    return target.stat().st_size == source.stat().st_size and encode(source, settings) is None


def encode(source: Path, settings: Store) -> bytes | None:
    """The re-encoded JPEG of a photo; None for an unreadable one."""
    recipe = Recipe(size=settings.size, crop=settings.crop, fit=settings.fit, decode_side=2 * settings.size)
    try:
        image = decode(source, recipe.decode_side)
    except UnreadableImage:
        return None
    small = image.resize((settings.size,) * 2, Image.Resampling.LANCZOS, box=view(*image.size, recipe))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=settings.quality, comment=_tag(settings))
    return out.getvalue()


def _tag(settings: Store) -> bytes:
    return f"ommatidia {digest(settings.model_dump())}".encode()
