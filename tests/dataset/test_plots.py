"""Pictures of a data set, whatever its size and names."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from pipeline.dataset import plots


def ink(path: Path) -> float:
    """Share of the pixels that are not white, of a picture that is large enough to read."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 100
        grey = image.convert("L")
        return 1 - sum(grey.histogram()[250:]) / (grey.width * grey.height)


@pytest.mark.parametrize(
    "counts",
    [{"a": 5, "b": 1}, {}, {"a": 0}, {"only": 3}, {"$\\frac$ x": 2, "_é & <b>": 1}],
    ids=["two", "none", "zero", "one", "odd names"],
)
def test_any_counts_can_be_drawn(tmp_path: Path, counts: dict[str, int]) -> None:
    plots.bars(counts, "A: photos", tmp_path / "bar.png")
    plots.cumulative(counts, "A: share", tmp_path / "cumulative.png")
    assert ink(tmp_path / "bar.png") > 0.005
    assert ink(tmp_path / "cumulative.png") > 0.005


def test_long_list_shows_head_and_tail_and_stays_readable(tmp_path: Path) -> None:
    plots.bars({f"species {i}": 1000 - i for i in range(1000)}, "A", tmp_path / "bar.png")
    with Image.open(tmp_path / "bar.png") as image:
        assert image.height < 2000


def test_splits_of_two_groups_and_an_empty_split(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {"split": ["train"] * 5 + ["test", ""], "group": ["A", "B"] * 3 + ["A"], "ok": [True] * 6 + [False]}
    )
    plots.splits(rows, tmp_path / "splits.png")
    assert ink(tmp_path / "splits.png") > 0.05


def test_same_counts_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plots.bars({"a": 5, "b": 1}, "A", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
