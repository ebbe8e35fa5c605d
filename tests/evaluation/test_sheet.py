"""Photos with their answers: what stands below each, and in which colour."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from PIL import Image
from toy import write_photo

from pipeline.evaluation.plots import GREEN, RED
from pipeline.evaluation.report import sheet
from pipeline.evaluation.report.sheet import answered

TRUTH = ["Apis mellifera", "Pieris $rapæ$", "Vanessa atalanta, the red admiral of gardens"]
ANSWER = ["Apis mellifera", "Apis mellifera", "Vanessa atalanta, the red admiral of gardens"]


@pytest.fixture
def samples(tmp_path: Path) -> pd.DataFrame:
    """Three answers, of which the second is wrong; the photo of the third is gone."""
    for i in range(2):
        write_photo(tmp_path / f"{i}.png", (200, 40, 40 * i))
    table = {"image_path": ["0.png", "1.png", "2.png"], "true_class": TRUTH, "predicted_class": ANSWER}
    return pd.DataFrame(table).assign(correct=[True, False, True], confidence=[0.91, 0.5, 0.75], stage="main")


def test_below_each_photo_stand_truth_and_answer_in_the_colour_of_the_verdict(
    samples: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(sheet, "save", lambda figure, _: drawn.append(figure))
    answered(samples, tmp_path, tmp_path / "a.png")
    [figure] = drawn
    assert figure.get_suptitle() == "3 photos drawn from 3, of which 2 are answered right (67%)"
    told = {axes.texts[-2].get_text(): axes for axes in figure.axes if axes.texts}
    first, second, gone = (told[f"truth: {name}"] for name in (*TRUTH[:2], "Vanessa atalanta, the red adm…"))
    assert first.texts[-1].get_text() == "Apis mellifera\nright, 91%, by main"
    assert second.texts[-1].get_text() == "Apis mellifera\nwrong, 50%, by main"
    assert same_color(first.texts[-1].get_color(), GREEN) and same_color(second.texts[-1].get_color(), RED)
    assert first.images and second.images and not gone.images
    assert gone.texts[0].get_text() == "no such file"


def test_the_draw_follows_the_seed(samples: pd.DataFrame, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        answered(samples, tmp_path, tmp_path / f"{name}.png", photos=1, seed=seed)
    one, same, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert one == same != other
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 2 * picture.height  # one row of four places
