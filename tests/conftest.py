"""What the tests share: a tiny folder of photos with known counts, and a configuration for it."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config import Config, load_config

COUNTS = {
    "Aves": {"Ardea alba": 6, "Pica pica": 4},
    "Insecta": {"Apis mellifera": 12, "Vanessa atalanta": 6, "Pieris rapae": 4, "Harmonia axyridis": 2},
}
REFERENCE = Path(os.environ.get("OMMATIDIA_REFERENCE", Path(__file__).resolve().parents[2] / "shared" / "reference"))


def draw_photo(seed: int, width: int = 64, height: int = 48) -> Image.Image:
    """A picture of random blots, large and small as in nature; another seed gives one that looks nothing like it."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height), "grey")
    for side in (24, 12, 6):  # the last and largest blots weigh most
        blots = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        image = Image.blend(image, blots.resize((width, height), Image.Resampling.BICUBIC), 0.5)
    return image


def write_photos(root: Path, counts: dict[str, dict[str, int]], seed: int = 0) -> Path:
    """Photos in the users' folder form."""
    for group, members in counts.items():
        for species, n in members.items():
            folder = root / group / species
            folder.mkdir(parents=True)
            for i in range(n):
                draw_photo(seed := seed + 1).save(folder / f"{i:03}.jpg", quality=92)
    return root


@pytest.fixture(scope="session")
def _master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("master") / "photos", COUNTS)


@pytest.fixture
def photos(_master: Path, tmp_path: Path) -> Path:
    """The tiny folder, the test's own: 10 photos of 2 birds, 24 of 4 insects."""
    return Path(shutil.copytree(_master, tmp_path / "photos"))


@pytest.fixture
def make_config(tmp_path: Path, photos: Path) -> Callable[..., Config]:
    """Configuration of the tiny folder, with `--set` overrides; writes to tmp_path/output and tmp_path/regional."""

    def make(*overrides: str) -> Config:
        path = tmp_path / "tiny.yaml"
        paths = {
            "src_dataset": str(photos),
            "dst_dataset": str(tmp_path / "regional"),
            "output_dir": str(tmp_path / "output"),
            "models_dir": str(tmp_path / "models"),
        }
        data = {"paths": paths, "dataset": {"workers": 1}, "train_val_split": {"dominant_threshold": 0.6}}
        path.write_text(json.dumps(data))
        return load_config(path, overrides)

    return make


@pytest.fixture
def region(tmp_path: Path) -> Path:
    """A species list: three of the six species of the tiny folder, and one that has no photo."""
    path = tmp_path / "region.json"
    path.write_text(
        json.dumps({"Aves": ["Ardea alba"], "Insecta": ["Apis mellifera", "Pieris rapae", "Mantis religiosa"]})
    )
    return path


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The log lines since the last call."""
    caplog.set_level(logging.INFO, "ommatidia")

    def take() -> list[str]:
        messages = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return messages

    return take


@pytest.fixture
def reference() -> Callable[[str], Any]:
    """Reads a file of published facts (folder: OMMATIDIA_REFERENCE); the test is skipped where they are not at hand."""

    def read(name: str) -> Any:
        if not (REFERENCE / name).is_file():
            pytest.skip(f"{REFERENCE / name} is not here")
        return json.loads((REFERENCE / name).read_text(encoding="utf-8"))

    return read
