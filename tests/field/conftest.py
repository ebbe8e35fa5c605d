"""A device with its photos, and the server that it asks. Nobody cuts the power of a test: nothing waits for the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toy import COLOURS, write_cascade, write_photo

from pipeline.edge.classify import main
from pipeline.field import sender, spool
from pipeline.field.remote import remote

from .device import BUNDLE, Run, rows_of
from .fake import TOKEN, Fake, serving


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SYNCHRONOUS", "off")


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cascade(tmp_path_factory.mktemp("bundle"), BUNDLE)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """4 photos of each species; the cache answers those of two."""
    for i, colour in enumerate(list(COLOURS.values()) * 4):
        write_photo(tmp_path / "photos" / f"{i:02}.png", [part - i // 5 for part in colour], (40 + i, 40))
    return tmp_path / "photos"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMMATIDIA_TOKEN", TOKEN)
    monkeypatch.setenv("OMMATIDIA_DEVICE", "pi")
    monkeypatch.setattr(sender, "FIRST", 0.002)
    monkeypatch.setattr(sender, "PATIENCE", 1.0)


@pytest.fixture
def server(packed: Path) -> Iterator[Fake]:
    with serving(packed) as running:
        yield running


@pytest.fixture
def run(packed: Path, photos: Path, tmp_path: Path) -> Run:
    """The command on the photos, with r.jsonl as its results."""

    def call(url: str, *more: str, folder: Path = packed) -> int:
        return main(folder, [str(photos), "--out", str(tmp_path / "r.jsonl"), "--main", url, *more], remote)

    return call


@pytest.fixture
def alone(packed: Path, photos: Path, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """What the whole bundle answers without any network."""
    assert main(packed, [str(photos), "--out", str(tmp_path / "alone.jsonl")]) == 0
    return rows_of(tmp_path / "alone.jsonl")
