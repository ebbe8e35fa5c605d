"""Pictures of a data set, whatever its size and names."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from pipeline.dataset import plots
from pipeline.dataset.overlap import Overlap, overlaps, together
from pipeline.dataset.venn import venn, venn_groups

ODD = {"$\\frac$ x": 2, "_é & <b>": 1, "<script>alert(1)</script>": 1, "x" * 100: 3, "x" * 99 + "y": 3, "a\nb\tc": 1}


def ink(path: Path) -> float:
    """Share of the pixels that are not white, of a picture that is large enough to read, and no larger than a page."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert 100 < min(image.size) <= max(image.size) < 2500
        grey = image.convert("L")
        return 1 - sum(grey.histogram()[250:]) / (grey.width * grey.height)


@pytest.mark.parametrize(
    "counts",
    [{"a": 5, "b": 1}, {}, {"a": 0}, {"only": 3}, {"a": 9, "b": 1, "c": 0}, ODD],
    ids=["two", "none", "zero", "one", "some zero", "odd names"],
)
def test_any_counts_can_be_drawn(tmp_path: Path, counts: dict[str, int]) -> None:
    plots.bars(counts, "A: photos", tmp_path / "bar.png")
    plots.cumulative(counts, "A: share", tmp_path / "cumulative.png")
    plots.distribution({"A": counts}, False, "CDF", tmp_path / "cdf.png")
    plots.distribution({"A": counts, "B": {"b": 3}}, True, "PPF", tmp_path / "ppf.png")
    for path in sorted(tmp_path.iterdir()):
        assert ink(path) > 0.001, path


def texts(draw: Callable[..., None], *arguments: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All texts of a figure, as it is about to be saved."""
    found: list[str] = []

    def read(figure: Any, path: Path, **_: Any) -> None:
        figure.canvas.draw()  # only then the ticks have their labels
        found.extend(text.get_text() for text in figure.findobj(plots.plt.Text))

    monkeypatch.setattr(plots.plt.Figure, "savefig", read)
    draw(*arguments, Path("never.png"))
    return found


@pytest.fixture
def texts_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[str]]:
    monkeypatch.chdir(tmp_path)
    return lambda draw, *arguments: texts(draw, *arguments, monkeypatch=monkeypatch)


def test_bars_tell_count_share_and_what_is_left_out(texts_of: Callable[..., list[str]]) -> None:
    told = texts_of(plots.bars, {f"species {i:04}": 1021 - i for i in range(1021)}, "Insecta")
    assert "1  species 0000" in told
    assert " 1,021 / 0.2%" in told
    assert "1021  species 1020" in told
    assert " 1 / <0.1%" in told
    assert f" 961 species between: {sum(range(16, 977)):,} / 91.4%" in told
    assert "Insecta (521,731 photos, 1,021 species)" in told


def test_thousand_species_stay_on_a_page(tmp_path: Path) -> None:
    plots.bars({f"species {i}": 1000 - i for i in range(1021)}, "A", tmp_path / "bar.png")
    assert ink(tmp_path / "bar.png") > 0.02


def test_cumulative_marks_the_published_points(
    texts_of: Callable[..., list[str]], reference: Callable[[str], Any]
) -> None:
    composition = reference("inat2017_composition.json")
    told = texts_of(plots.cumulative, composition["Insecta"], "Insecta")
    assert "50%: 104 species (10.2% of them) hold 50.1%" in told
    assert "80%: 405 species (39.7% of them) hold 80.0%" in told
    assert "90%: 628 species (61.5% of them) hold 90.0%" in told


def test_marks_at_the_same_species_share_one_text(texts_of: Callable[..., list[str]]) -> None:
    assert "50%, 80%, 90%: 1 species (50.0% of them) hold 90.0%" in texts_of(plots.cumulative, {"a": 9, "b": 1}, "A")


def test_groups_are_merged_by_name() -> None:
    assert plots.merged({"A": {"x": 2, "y": 1}, "B": {"x": 3}}) == {"x": 5, "y": 1}


def test_distribution_tells_the_median_of_each_group(texts_of: Callable[..., list[str]]) -> None:
    groups = {"A": {"a": 14, "b": 50, "c": 90}, "B": {"d": 20, "e": 30}, "C": {}}
    told = texts_of(plots.distribution, groups, False, "CDF")
    assert "A: 3 species, median 50" in told
    assert "B: 2 species, median 25" in told
    assert not [text for text in told if text.startswith("C:")]
    assert "30" in told
    assert not [text for text in told if "$" in text]  # markup of ticks, which is not read as such


def test_splits_of_two_groups_and_an_empty_split(tmp_path: Path, texts_of: Callable[..., list[str]]) -> None:
    rows = pd.DataFrame(
        {"split": ["train"] * 5 + ["test", ""], "group": ["A", "B"] * 3 + ["A"], "ok": [True] * 6 + [False]}
    )
    plots.splits(rows, tmp_path / "splits.png")
    assert ink(tmp_path / "splits.png") > 0.05
    assert ink_free(texts_of(plots.splits, rows)) >= {"A", "B", "all", "train", "val", "test", "3", "2", "1", "5", "6"}


def ink_free(told: list[str]) -> set[str]:
    return {text.strip() for text in told if text.strip()}


def test_splits_without_any_photo(tmp_path: Path) -> None:
    plots.splits(pd.DataFrame({"split": [""], "group": ["A"], "ok": [False]}), tmp_path / "splits.png")
    assert ink(tmp_path / "splits.png") > 0.005


# Venn diagrams ------------------------------------------------------------------------------------------------------


def test_overlap_is_the_published_one(reference: Callable[[str], Any], texts_of: Callable[..., list[str]]) -> None:
    photos, region = reference("inat2017_composition.json"), reference("haute_garonne_checklist.json")

    def parts(groups: list[str]) -> dict[str, Overlap]:
        both, left, right = ({g: op(set(photos[g]), set(region.get(g, []))) for g in groups} for op in (
            set.intersection, set.difference, lambda a, b: b - a
        ))  # fmt: skip
        return overlaps(both, left, right)

    assert together(parts(["Aves", "Insecta"])) == Overlap(1701, 284, 2615)
    assert together(parts(list(photos))) == Overlap(4299, 790, 3864)
    told = texts_of(venn, together(parts(["Aves", "Insecta"])), "targets")
    assert {"1,701", "284", "2,615", "photos", "regional list"} <= set(told)
    [box] = [text for text in told if "in common" in text]
    for line in ("with photos      1,985", "on the list      2,899", "(14.3% of photos, 9.8% of list)"):
        assert line in box


@pytest.mark.parametrize("sizes", [(0, 0, 0), (5, 0, 0), (0, 3, 0), (0, 0, 2), (5, 0, 7), (900, 1, 2500)])
def test_any_overlap_can_be_drawn(tmp_path: Path, sizes: tuple[int, int, int]) -> None:
    venn(Overlap(*sizes), "all", tmp_path / "venn.png")
    assert ink(tmp_path / "venn.png") > 0.02


@pytest.mark.parametrize("groups", [0, 1, 13])
def test_any_number_of_groups_can_be_drawn(tmp_path: Path, groups: int) -> None:
    parts = {f"group {i} <b>$": Overlap(i, i % 3, 2 * i) for i in range(groups)}
    venn_groups(parts, "Species", tmp_path / "venn.png")
    assert ink(tmp_path / "venn.png") > 0.005


def test_nothing_together_is_nothing() -> None:
    assert together({}) == Overlap(0, 0, 0)


# all of them --------------------------------------------------------------------------------------------------------


def test_same_counts_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plots.bars({"a": 5, "b": 1}, "A", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_letters_that_the_font_lacks_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "ommatidia")
    plots.bars({"蜜蜂": 2}, "A", tmp_path / "bar.png")
    assert caplog.messages == [f"  {tmp_path / 'bar.png'}: the font lacks letters of some names, which show as boxes"]
    assert ink(tmp_path / "bar.png") > 0.01


def test_a_target_that_cannot_be_written_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        plots.bars({"a": 1}, "A", tmp_path / "file" / "bar.png")
    assert not plots.plt.get_fignums()
