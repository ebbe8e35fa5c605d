"""Photos and region joined by name, per group."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.dataset.composition import total
from pipeline.dataset.matching import match
from pipeline.errors import DataError


def test_both_sides_leftovers_are_kept() -> None:
    result = match({"A": ["x", "y"], "B": ["z"]}, {"A": ["y", "w"], "C": ["v"]})
    assert result.matched == {"A": ["y"], "B": []}
    assert result.only_photos == {"A": ["x"], "B": ["z"]}
    assert result.only_region == {"A": ["w"], "B": []}
    assert result.total == 1


def test_same_name_in_another_group_is_no_match() -> None:
    result = match({"A": ["x", "y"], "B": ["z"]}, {"A": ["y"], "B": ["x"]})
    assert result.matched == {"A": ["y"], "B": []}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_composed_and_decomposed_accents_match_in_the_folders_spelling(form: str) -> None:
    folder = unicodedata.normalize("NFD" if form == "NFD" else "NFC", "Épeire")
    for listed in (unicodedata.normalize("NFC", "Épeire"), unicodedata.normalize("NFD", "Épeire")):
        assert match({"A": [folder]}, {"A": [listed]}).matched == {"A": [folder]}


def test_names_with_slashes_and_dots_match_nothing() -> None:
    result = match({"A": ["x"]}, {"A": ["x", "../A/x", "..", "x/", "/x"]})
    assert result.matched == {"A": ["x"]}
    assert len(result.only_region["A"]) == 4


def test_list_that_matches_nothing_shows_an_example_of_each_side() -> None:
    words = "none of the 2 species of the list .* 1 species folders; e.g. the list has 'apis', the photos have 'Apis'"
    with pytest.raises(DataError, match=words):
        match({"A": ["Apis"]}, {"A": ["apis", "mantis"]})


def test_real_region_matches_the_published_species_and_images(reference: Callable[[str], Any]) -> None:
    inat, region = reference("inat2017_composition.json"), reference("haute_garonne_checklist.json")
    groups = ["Aves", "Insecta"]
    result = match({group: inat[group] for group in groups}, {group: region[group] for group in groups})
    composition = {group: {name: inat[group][name] for name in result.matched[group]} for group in groups}
    assert result.total == 284
    assert {group: len(names) for group, names in result.matched.items()} == {"Aves": 140, "Insecta": 144}
    assert [total({group: composition[group]}) for group in groups] == [42_540, 18_849]
    assert composition == reference("haute_garonne_composition.json")
    assert {group: len(names) for group, names in result.only_photos.items()} == {
        "Aves": 964 - 140,
        "Insecta": 1021 - 144,
    }


def test_real_region_matches_790_species_over_all_groups(reference: Callable[[str], Any]) -> None:
    inat, region = reference("inat2017_composition.json"), reference("haute_garonne_checklist.json")
    result = match(inat, region)
    assert result.total == 790
    assert len(result.matched["Plantae"]) == 381
    assert len(result.matched["Chromista"]) == 0
