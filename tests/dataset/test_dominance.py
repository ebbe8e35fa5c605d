"""Rule B6: known answers, ties, exactness, and the published counts of the real region."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.dataset.dominance import dominant_of_groups, dominant_species, rank_species
from pipeline.errors import DataError, LabelSpaceError
from pipeline.labels import OTHER, window

FOUR = {"a": 100, "b": 50, "c": 30, "d": 10}


@pytest.mark.parametrize(("threshold", "n"), [(0.6, 2), (0.9, 3), (1.0, 4), (0.53, 2), (0.78, 2), (0.95, 4)])
def test_known_answers(threshold: float, n: int) -> None:
    assert dominant_species(FOUR, threshold) == list(FOUR)[:n]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.526])
def test_threshold_below_the_first_share_tells_the_minimum(threshold: float) -> None:
    with pytest.raises(DataError, match=rf"{threshold} is too low: a alone holds 0\.5263 .* Minimum: 0\.5264"):
        dominant_species(FOUR, threshold)


@pytest.mark.parametrize("counts", [FOUR, {"a": 1, "b": 1, "c": 1}, {"a": 7}, {"a": 99_999, "b": 1}, {"a": 2, "b": 3}])
def test_minimum_of_the_message_is_accepted(counts: dict[str, int]) -> None:
    with pytest.raises(DataError) as caught:
        dominant_species(counts, 0.0)
    minimum = float(str(caught.value).rpartition("Minimum: ")[2])
    assert minimum <= 1
    assert dominant_species(counts, minimum)


def test_equality_with_the_first_share_is_accepted() -> None:
    assert dominant_species({"a": 50, "b": 30, "c": 20}, 0.5) == ["a"]


def test_all_species_tied_with_the_last_one_are_in() -> None:
    assert dominant_species({"a": 40, "b": 20, "c": 20, "d": 20}, 0.6) == ["a", "b", "c", "d"]
    assert dominant_species({"x": 1, "y": 1}, 0.5) == ["x", "y"]


def test_comparison_is_exact_where_float_sums_err() -> None:
    counts = {str(i): 1 for i in range(10)}
    assert sum([0.1] * 3) > 0.3  # what a float comparison would stumble over
    assert dominant_species({"a": 4, "b": 3, "c": 2, "d": 1}, 0.7) == ["a", "b"]  # .4 + .3 >= .7 in floats, too
    assert dominant_species({"a": 3, "b": 3, "c": 3, "d": 1}, 0.9) == ["a", "b", "c"]  # .3 + .3 + .3 < .9 in floats
    assert len(dominant_species(counts, 0.3)) == 10
    huge = {"a": 10**17 + 1, "b": 10**17 - 1, "c": 1}
    assert dominant_species(huge, 0.6) == ["a", "b"]
    assert dominant_species({"a": 10**17, "b": 10**17}, 0.5) == ["a", "b"]


def test_empty_species_and_groups_are_never_dominant() -> None:
    assert dominant_species({}, 0.5) == []
    assert dominant_species({"a": 0}, 0.5) == []
    assert dominant_species({"a": 5, "b": 5, "c": 0}, 1.0) == ["a", "b"]


@pytest.mark.parametrize("threshold", [-0.1, 1.1])
def test_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]"):
        dominant_species(FOUR, threshold)


def test_each_group_by_itself() -> None:
    two = {"A": {"x": 6, "y": 4}, "B": {"z": 1000}}
    assert dominant_of_groups(two, 1.0) == {"A": ["x", "y"], "B": ["z"]}
    with pytest.raises(DataError, match="z alone holds"):
        dominant_of_groups(two, 0.6)


# ranks and windows --------------------------------------------------------------------------------------------------

TWO = {"A": {"x": 6, "y": 5, "z": 1}, "B": {"p": 300, "q": 200, "r": 100}}


def test_ranks_of_one_group_are_by_images_then_name() -> None:
    assert rank_species({"A": {"c": 2, "b": 2, "a": 1, "d": 3}}, 0.375) == (["d", "b", "c", "a"], 1)


def test_window_zero_of_two_groups_holds_the_dominant_species_of_both() -> None:
    ranking, n = rank_species(TWO, 0.5)
    assert (ranking, n) == (["p", "x", "q", "r", "y", "z"], 2)
    assert set(window(ranking, n, 0).names) == {
        name for names in dominant_of_groups(TWO, 0.5).values() for name in names
    } | {OTHER}


def test_following_windows_take_the_rest_by_images() -> None:
    ranking, n = rank_species(TWO, 0.5)
    assert window(ranking, n, n).names == ("q", "r", OTHER)
    assert window(ranking, n, 2 * n).names == ("y", "z", OTHER)


def test_window_of_threshold_one_holds_everything_and_is_refused() -> None:
    ranking, n = rank_species(TWO, 1.0)
    assert n == 6
    with pytest.raises(LabelSpaceError, match="lower the threshold"):
        window(ranking, n, 0)


# the published figures: counts in test_labelling.py ----------------------------------------------------------------


def test_real_region_first_cache(reference: Callable[[str], Any]) -> None:
    ranking, n = rank_species({"Insecta": reference("haute_garonne_composition.json")["Insecta"]}, 0.5)
    assert window(ranking, n, 0).names == (
        "Apis mellifera",
        "Vanessa atalanta",
        "Harmonia axyridis",
        "Pieris rapae",
        "Coccinella septempunctata",
        "Vanessa cardui",
        "Nymphalis antiopa",
        OTHER,
    )
    assert window(ranking, n, n).names[:3] == ("Mantis religiosa", "Sceliphron caementarium", "Noctua pronuba")
    assert ranking[-1] == "Evergestis pallidata"
