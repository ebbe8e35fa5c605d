"""Images per species."""

from __future__ import annotations

from pipeline.dataset.composition import compose, total

PHOTOS = [("B", "y"), ("A", "z"), ("B", "x"), ("B", "y")]


def test_counts_per_species_in_sorted_order() -> None:
    composition = compose(PHOTOS)
    assert composition == {"A": {"z": 1}, "B": {"x": 1, "y": 2}}
    assert list(composition) == ["A", "B"]
    assert list(composition["B"]) == ["x", "y"]
    assert compose(reversed(PHOTOS)) == composition


def test_listed_species_without_photos_count_zero() -> None:
    assert compose(PHOTOS, {"A": ["q"], "C": ["r"]}) == {"A": {"q": 0, "z": 1}, "B": {"x": 1, "y": 2}, "C": {"r": 0}}


def test_total() -> None:
    assert total(compose(PHOTOS)) == 4
    assert total({}) == 0
