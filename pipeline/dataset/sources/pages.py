"""Paged answers of a server: each page is stored as it arrives, and a stored page is not requested again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.errors import DataError
from pipeline.files import replacing

Get = Callable[[str], bytes]  # from a URL to its body


def kept(path: Path, get: Callable[[], bytes], check: Callable[[bytes], object]) -> bytes:
    """The page at `path`, from the server where it is not there yet. A page that `check` refuses (DataError) is kept
    beside it for a look, and is asked for again the next time."""
    if path.is_file():
        return path.read_bytes()
    body = get()
    try:
        check(body)
    except DataError as error:
        rejected = path.with_name(f"rejected_{path.name}")
        _write(rejected, body)
        raise DataError(f"{error} (the page is kept as {rejected})") from error
    _write(path, body)
    return body


def _write(path: Path, body: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(body)
