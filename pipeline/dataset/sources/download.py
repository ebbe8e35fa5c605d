"""Download the photos of an Open Data query into the folder format, with a ledger of licences and holders."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.console import log, progress
from pipeline.dataset.sources.pages import Get
from pipeline.edge.errors import UnreadableImage
from pipeline.edge.recipe import decode
from pipeline.edge.sources import EXTENSIONS
from pipeline.errors import NetworkError, Refused
from pipeline.files import replacing, safe_name, sha256

FACTS = ["photo_id", "group", "species", "observation", "date", "observer", "licence", "attribution"]
COLUMNS = ["image_path", *FACTS, "url", "sha256", "ok", "reason"]
SAVE_EVERY = 30.0  # seconds
UNANSWERED = 3  # consecutive photos without any answer of the server that end the run


def download(
    photos: pd.DataFrame, root: Path, get: Get, base_url: str, size: str, known: pd.DataFrame,
    save: Callable[[pd.DataFrame], None],
) -> pd.DataFrame:  # fmt: skip
    """Fetch the photos that are missing below `root`; one row per photo with COLUMNS, in the order given.

    photos: what `open_data.search` wrote. A photo has the path <group>/<species>/<photo_id>.<extension> below root and is
    there only whole and decodable; one that cannot be had or decoded is a row with a reason, and is asked for again the
    next time. known: the ledger of an earlier run (or an empty one): a photo that has other bytes by now, or came from
    another address (in another size), is fetched again. save: is given the ledger as it stands, with the known rows of what
    is still to come, every SAVE_EVERY seconds and when the run breaks off, so that the next one goes on there. Three photos
    in a row without any answer raise NetworkError; what has arrived stays.
    """
    had = known[known["ok"].astype(bool)]
    earlier = dict(zip(had["image_path"], zip(had["url"], had["sha256"], strict=True), strict=True))
    rows: list[dict[str, Any]] = []
    saved = time.monotonic()
    try:
        for row in _rows(photos, root, get, base_url, size, earlier):
            rows.append(row)
            if time.monotonic() - saved > SAVE_EVERY:
                save(_so_far(rows, known))
                saved = time.monotonic()
    except BaseException:  # Ctrl-C too
        if rows:
            save(_so_far(rows, known))
        raise
    return pd.DataFrame(rows, columns=COLUMNS)


def _so_far(rows: list[dict[str, Any]], known: pd.DataFrame) -> pd.DataFrame:
    done = {row["image_path"] for row in rows}
    later = known[~known["image_path"].isin(done)]
    return pd.DataFrame([*rows, *later.to_dict("records")], columns=COLUMNS)


def _rows(
    photos: pd.DataFrame, root: Path, get: Get, base_url: str, size: str, earlier: dict[str, tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    unanswered = 0
    for photo in progress(photos[[*FACTS, "extension"]].itertuples(index=False), len(photos), "download"):
        *facts, extension = photo
        number, group, species = facts[:3]
        path = f"{safe_name(group)}/{safe_name(species)}/{number}.{safe_name(extension)}"
        url = f"{base_url}/{number}/{size}.{extension}"
        row = {"image_path": path, **dict(zip(FACTS, facts, strict=True)), "url": url}
        try:
            if f".{extension}" not in EXTENSIONS:
                raise UnreadableImage(f"{extension!r} is no format that is read")
            digest = _kept(root / path, url, earlier.get(path)) or _fetch(url, root / path, get)
            yield row | {"sha256": digest, "ok": True, "reason": ""}
            unanswered = 0
        except (Refused, UnreadableImage) as error:
            yield row | {"sha256": "", "ok": False, "reason": str(error)}
            unanswered = 0
        except NetworkError as error:
            unanswered += 1
            if unanswered == UNANSWERED:
                raise
            yield row | {"sha256": "", "ok": False, "reason": str(error)}


def _kept(path: Path, url: str, earlier: tuple[str, str] | None) -> str | None:
    """The hash of a valid stored photo: with the ledger's address and bytes or, without a ledger, a decodable picture."""
    if not path.is_file():
        return None
    there = sha256(path)
    if earlier:
        if (url, there) == earlier:
            return there
        log.warning("  %s is not what is asked for; it is fetched again", path)
        path.unlink()  # a failed download must not leave the old file in its place
        return None
    try:
        decode(path)
    except UnreadableImage as error:
        log.warning("  %s %s; it is fetched again", path, error)
        return None
    return there


def _fetch(url: str, path: Path, get: Get) -> str:
    data = get(url)
    if data.lstrip()[:1] == b"<":
        raise UnreadableImage(f"the server gave HTML or XML, no picture: {_start(data)!r}")
    decode(data)
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _start(data: bytes) -> str:
    return " ".join(data[:200].decode(errors="replace").split())[:80]


def read_ledger(path: Path) -> pd.DataFrame:
    """The stored ledger; an empty one where there is none."""
    return pd.read_parquet(path) if path.is_file() else pd.DataFrame(columns=COLUMNS)


def failures(ledger: pd.DataFrame) -> dict[str, Any]:
    """Missing photos per reason, the most frequent first; numbers in the reasons are ignored."""
    reasons = ledger.loc[~ledger["ok"].astype(bool), "reason"].str.replace(r"https?://\S+", "the photo", regex=True)
    return dict(reasons.value_counts())
