"""Photos and region joined by name, per group."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.dataset.composition import total
from pipeline.dataset.matching import Joined, match, observations, report
from pipeline.dataset.sources.listing import ANY_GROUP
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


# spelt differently --------------------------------------------------------------------------------------------------

FOLDERS = {"Insecta": ["Apis mellifera", "Mentha x piperita", "Pieris rapae", "Vanessa cardui", "Vespa"]}
LISTED = {"Insecta": ["Apis mellifera L.", "Mentha × piperita", "pieris rapae", "Cynthia cardui", "Vespa crabro"]}


def test_exact_takes_nothing_else_and_offers_what_normalised_would_join() -> None:
    result = match({"A": ["x", *FOLDERS["Insecta"]]}, {"A": ["x", *LISTED["Insecta"]]})
    assert result.matched == {"A": ["x"]}
    assert result.joined == []
    assert [pair.folder for pair in result.offered] == ["Apis mellifera", "Mentha x piperita", "Pieris rapae"]
    assert result.only_region == {"A": sorted(LISTED["Insecta"])}


def test_normalised_joins_them_in_the_folders_spelling() -> None:
    result = match(FOLDERS, LISTED, normalised=True)
    assert result.matched == {"Insecta": ["Apis mellifera", "Mentha x piperita", "Pieris rapae"]}
    assert result.joined[0] == Joined("Insecta", "Apis mellifera", "Apis mellifera L.", "normalised")
    assert result.offered == []
    assert result.only_photos == {"Insecta": ["Vanessa cardui", "Vespa"]}
    assert result.only_region == {"Insecta": ["Cynthia cardui", "Vespa crabro"]}


@pytest.mark.parametrize("table", [{"cynthia cardui": "vanessa cardui"}, {"vanessa cardui": "cynthia cardui"}])
@pytest.mark.parametrize("normalised", [True, False])
def test_a_table_of_synonyms_joins_from_either_side(table: dict[str, str], normalised: bool) -> None:
    result = match(FOLDERS, LISTED, normalised, table)
    assert Joined("Insecta", "Vanessa cardui", "Cynthia cardui", "synonym") in result.joined
    assert len(result.joined) == (4 if normalised else 1)
    assert result.matched["Insecta"][-1] == "Vanessa cardui"


def test_several_listed_subspecies_lead_to_one_folder() -> None:
    listed = {"Aves": ["Pica pica", "Pica pica melanotos", "Pica pica pica"]}
    result = match({"Aves": ["Pica pica"]}, listed, normalised=True)
    assert result.matched == {"Aves": ["Pica pica"]}
    assert result.only_region == {"Aves": []}
    assert len(result.joined) == 2


def test_a_listed_name_that_several_folders_fit_is_told_and_not_joined() -> None:
    folders = {"Aves": ["Ardea alba", "Pica pica melanotos", "Pica pica pica"]}
    result = match(folders, {"Aves": ["Ardea alba", "Pica pica"]}, normalised=True)
    assert result.matched == {"Aves": ["Ardea alba"]}
    assert result.ambiguous == {"Aves": {"Pica pica": ["Pica pica melanotos", "Pica pica pica"]}}
    assert result.only_region == {"Aves": ["Pica pica"]}


def test_a_near_name_is_reported_and_never_taken() -> None:
    folders, listed = {"A": ["Apis melifera", "Pica pica"]}, {"A": ["Apis mellifera", "Pica pica"]}
    result = match(folders, listed, normalised=True, synonyms={"a b": "c d"})
    assert result.matched == {"A": ["Pica pica"]}
    told = report(result, folders, listed)
    assert told["nearest_in_region"] == {"A": {"Apis melifera": "Apis mellifera"}}
    assert told["nearest_in_photos"] == {"A": {"Apis mellifera": "Apis melifera"}}


def test_names_of_a_list_without_groups_are_looked_for_in_all() -> None:
    folders = {"Aves": ["Pica pica"], "Insecta": ["Apis mellifera", "Vanessa io"]}
    result = match(folders, {ANY_GROUP: ["Pica pica", "Apis mellifera", "Tuber"]})
    assert result.matched == {"Aves": ["Pica pica"], "Insecta": ["Apis mellifera"]}
    assert result.only_region == {"Aves": [], "Insecta": [], ANY_GROUP: ["Tuber"]}


def test_the_report_tells_of_genera_and_of_names_in_two_groups() -> None:
    folders = {"Aves": ["Apis", "Pica pica"], "Insecta": ["Apis sp.", "Pica pica", "Vespa crabro"]}
    listed = {"Aves": ["Pica pica", "Vespa crabro L."], "Insecta": ["Pica pica", "Bombus"]}
    told = report(match(folders, listed), folders, listed)
    assert told["genus_only"] == {
        "photos": {"Aves": ["Apis"], "Insecta": ["Apis sp."]},
        "region": {"Insecta": ["Bombus"]},
    }
    assert told["in_two_groups"] == {
        "pica pica": {"photos": ["Aves", "Insecta"], "region": ["Aves", "Insecta"]},
        "vespa crabro": {"photos": ["Insecta"], "region": ["Aves"]},
    }


def test_a_group_that_is_not_included_still_counts_for_names_in_two_groups() -> None:
    folders, listed = {"Aves": ["Oenanthe", "Pica pica"]}, {"Aves": ["Pica pica"], "Plantae": ["Oenanthe"]}
    chosen = {"Aves": listed["Aves"]}
    told = report(match(folders, chosen), folders, chosen, listed)
    assert told["in_two_groups"] == {"oenanthe": {"photos": ["Aves"], "region": ["Plantae"]}}
    assert told["nearest_in_region"] == {"Aves": {}}


# observations -------------------------------------------------------------------------------------------------------


def test_observations_take_the_folders_names_and_add_up() -> None:
    counts = {
        "Aves": {"Pica pica": 5, "Pica pica melanotos": 2, unicodedata.normalize("NFD", "Épeire"): 3},
        "Insecta": {"Artogeia rapae": 7, "Bombus": 9},
        ANY_GROUP: {"Apis mellifera L.": 900, "Pica pica": 1},
    }
    folders = {"Aves": ["Pica pica", "Épeire"], "Insecta": ["Apis mellifera", "Pieris rapae"]}
    result = match(folders, counts, normalised=True, synonyms={"artogeia rapae": "pieris rapae"})
    assert observations(result, counts) == {
        "Aves": {"Pica pica": 8, "Épeire": 3},
        "Insecta": {"Apis mellifera": 900, "Pieris rapae": 7},
    }
    exact = match(folders, counts)
    assert observations(exact, counts) == {"Aves": {"Pica pica": 6, "Épeire": 3}, "Insecta": {}}


def test_a_list_that_does_not_count_has_no_observations() -> None:
    assert observations(match(FOLDERS, FOLDERS), {}) == {}


# the published region -----------------------------------------------------------------------------------------------


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


def test_real_region_normalised_finds_two_more(reference: Callable[[str], Any]) -> None:
    inat, region = reference("inat2017_composition.json"), reference("haute_garonne_checklist.json")
    exact, loose = match(inat, region), match(inat, region, normalised=True)
    assert loose.total == 792
    assert exact.offered == loose.joined
    assert [(pair.folder, pair.listed) for pair in loose.joined] == [
        ("Anser cygnoides domesticus", "Anser cygnoides"),
        ("Crocosmia  crocosmiiflora", "Crocosmia × crocosmiiflora"),
    ]
    told = report(exact, inat, region)
    assert told["nearest_in_photos"]["Mollusca"] == {"Gonyodiscus rotundatus": "Discus rotundatus"}
    assert told["genus_only"] == {"photos": {"Amphibia": ["Pelophylax"]}, "region": {}}
