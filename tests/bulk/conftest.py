"""A toy experiment with a packed cascade, and photos to ask it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toy import COLOURS, Experiment, cache_colours, write_cascade, write_experiment, write_photo

from pipeline.bulk.run import Request, predict_photos
from pipeline.bulk.work import sessions
from pipeline.console import DONE, SOME_FAILED

from .bulk_rows import ODD


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Exported models and a bundle; read only."""
    experiment = write_experiment(tmp_path_factory.mktemp("packed") / "root")
    stages = [("cache", cache_colours("Apis mellifera", "Vanessa atalanta"), 0.3), ("main", COLOURS, 0.0)]
    write_cascade(experiment.root / "output" / "toy" / "bundle", stages)
    return experiment


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """23 photos with odd names, 2 of them broken."""
    folder = tmp_path / "photos"
    colours = list(COLOURS.values())
    for i, name in enumerate([*ODD, *(f"{'abc'[i % 3]}/{i}.png" for i in range(16))]):
        write_photo(folder / name, colours[i % len(colours)])
    (folder / "a" / "broken.jpg").write_text("not a picture")
    (folder / "c" / "empty.jpg").touch()
    return folder


@pytest.fixture
def predict(packed: Experiment, tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Call it on this input, with 4 photos a part in this process unless told otherwise; returns the exit code."""

    def call(photos: Path | str, *overrides: str, **options: Any) -> int:
        sessions.cache_clear()
        options = {"out": tmp_path / "out", "part_size": 4, "workers": 1} | options
        facts = predict_photos(packed.config(*overrides), Request(str(photos), **options))
        assert facts["answers"] == options["out"] / "answers"
        return SOME_FAILED if facts["failed"] else DONE

    yield call
    sessions.cache_clear()
