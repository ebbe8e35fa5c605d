"""Label spaces: joined by name, "Other" last."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.edge.labels import label_hash
from pipeline.errors import LabelSpaceError
from pipeline.labels import OTHER, LabelSpace, long_tail, translate, window

RANKING = ["Apis", "Vanessa", "Pieris", "Mantis", "Lycaena"]


def test_names_outside_become_other() -> None:
    assert LabelSpace(("Apis", "Pieris", OTHER)).ids(["Pieris", "Mantis", "Apis"]).tolist() == [1, 2, 0]


def test_names_outside_a_space_without_other_are_refused_by_name() -> None:
    with pytest.raises(
        LabelSpaceError, match="1 species are not in the label space .* 'Mantis'.*different experiments"
    ):
        LabelSpace(("Apis", "Pieris")).ids(["Apis", "Mantis"])


def test_translate_joins_by_name_not_by_index() -> None:
    assert np.array_equal(translate(["a", "b", "c"], ["c", "a", OTHER]), [1, 2, 0])
    assert np.array_equal(translate(["a", "b"], ["b"]), [-1, 0])


def test_hash_changes_with_names_and_with_order() -> None:
    spaces = [("a", "b"), ("b", "a"), ("a", "b", OTHER), ("ab",), ("a", "c")]
    assert len({label_hash(names) for names in spaces}) == len(spaces)
    assert LabelSpace(("a", "b")).hash == label_hash(["a", "b"])


def test_other_anywhere_but_last_is_refused() -> None:
    with pytest.raises(LabelSpaceError, match="must be the last"):
        LabelSpace((OTHER, "Apis"))


def test_a_name_twice_is_refused_by_name() -> None:
    with pytest.raises(LabelSpaceError, match=r"\['Apis'\] twice"):
        LabelSpace(("Apis", "Pieris", "Apis"))


def test_has_other() -> None:
    assert LabelSpace(("Apis", OTHER)).has_other
    assert not LabelSpace(("Apis",)).has_other
    assert not LabelSpace(()).has_other


@pytest.mark.parametrize(
    ("n", "start", "names"),
    [
        (2, 0, ("Apis", "Vanessa", OTHER)),
        (2, 2, ("Pieris", "Mantis", OTHER)),
        (2, 4, ("Lycaena", OTHER)),
        (1, 1, ("Vanessa", OTHER)),
    ],
)
def test_window_is_in_rank_order_with_other_last(n: int, start: int, names: tuple[str, ...]) -> None:
    assert window(RANKING, n, start).names == names


def test_more_frequent_species_before_the_window_are_other() -> None:
    assert window(RANKING, 2, 2).ids(["Apis"]).tolist() == [2]


@pytest.mark.parametrize("start", [5, 99, -1])
def test_window_outside_the_ranks_is_refused(start: int) -> None:
    with pytest.raises(LabelSpaceError, match=f"start_rank {start} is outside the 5 ranked species"):
        window(RANKING, 2, start)


def test_window_that_holds_everything_is_refused() -> None:
    with pytest.raises(LabelSpaceError, match='nothing is left for "Other"; lower the threshold'):
        window(RANKING, 5, 0)


def test_the_long_tail_is_cut_by_training_photos() -> None:
    counts = {"a": 101, "b": 100, "c": 20, "d": 19, "e": 0, "Other": 5}
    assert long_tail(counts) == {"head": ["a"], "middle": ["b", "c"], "tail": ["d", "e"]}
    assert long_tail({}) == {"head": [], "middle": [], "tail": []}
