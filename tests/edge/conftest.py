"""A toy bundle, and photos for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import COLOURS, cache_colours, write_cascade, write_photo

from .calls import APIS, PIERIS


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    stages = [("cache", cache_colours("Apis mellifera"), 0.5), ("main", COLOURS, 0.0)]
    return write_cascade(tmp_path_factory.mktemp("bundle"), stages)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two good photos, one of which has spaces and accents in its name, in nested folders."""
    write_photo(tmp_path / "photos" / "b" / "plain.png", APIS)
    write_photo(tmp_path / "photos" / "a" / "l'été, à la mer.png", PIERIS)
    return tmp_path / "photos"
