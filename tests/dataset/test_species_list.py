"""A region's species from a JSON file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.dataset.sources.species_list import read_species_list
from pipeline.errors import DataError


def write(folder: Path, content: object) -> Path:
    path = folder / "region.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_groups_asked_for_sorted_and_without_repetition(tmp_path: Path) -> None:
    path = write(tmp_path, {"Aves": ["b", "a", "b"], "Fungi": ["c"]})
    assert read_species_list(path, ["Aves", "Insecta"]) == {"Aves": ["a", "b"], "Insecta": []}


def test_list_without_any_of_the_groups_names_both_sides(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of the groups \['Aves'\]; it has \['Fungi', 'Plantae'\]"):
        read_species_list(write(tmp_path, {"Plantae": [], "Fungi": ["c"]}), ["Aves"])


@pytest.mark.parametrize(
    "content", [["Apis"], {"Aves": "Pica pica"}, {"Aves": [1]}, {"Aves": {"Pica pica": 3}}, 7, None]
)
def test_malformed_list_shows_the_form(tmp_path: Path, content: object) -> None:
    with pytest.raises(DataError, match=r'region\.json must be \{"group": \["species", \.\.\.\]\}'):
        read_species_list(write(tmp_path, content), ["Aves"])


def test_broken_json_names_the_file_and_the_key(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"cannot be read as the species list \(paths.web_crawl_output_json\): .*line 1"
    ):
        read_species_list(write(tmp_path, '{"Aves": ['), ["Aves"])


def test_missing_list_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no species list \(paths.web_crawl_output_json\) at .*none\.json"):
        read_species_list(tmp_path / "none.json", ["Aves"])


def test_real_list_has_the_published_size(tmp_path: Path, reference: object) -> None:
    assert callable(reference)
    path = write(tmp_path, reference("haute_garonne_checklist.json"))
    sizes = {group: len(names) for group, names in read_species_list(path, ["Aves", "Insecta"]).items()}
    assert sizes == {"Aves": 218, "Insecta": 2681}
