"""Species counts of iNaturalist's API, through pyinaturalist."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pyinaturalist.constants import ICONIC_TAXA

from pipeline.dataset.sources import inaturalist_api
from pipeline.dataset.sources.inaturalist_api import species_counts
from pipeline.dataset.sources.listing import GROUPS
from pipeline.errors import DataError, NetworkError

from .server import Answer, Server

ROWS = {
    "Aves": [(1, "Pica pica", "species", 7)],
    "Insecta": [
        (2, "Apis mellifera", "species", 9),
        (3, "Apis mellifera iberiensis", "subspecies", 4),
        (4, "Coenonympha arcania", "species", 3),
        (5, "Zygaena × mixta", "hybrid", 1),
        (6, "Vanessa atalanta", "species", 2),
    ],
}
WHOLE = {"Aves": {"Pica pica": 7}, "Insecta": {"Apis mellifera": 13, "Coenonympha arcania": 3, "Vanessa atalanta": 2}}


def answer(rows: list[tuple[int, str, str, int]], total: int) -> Answer:
    results = [{"count": n, "taxon": {"id": i, "name": name, "rank": rank}} for i, name, rank, n in rows]
    return Answer(json.dumps({"total_results": total, "page": 1, "per_page": 2, "results": results}).encode())


@pytest.fixture
def api(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The API with two species per page, whatever is asked."""
    monkeypatch.setattr("pyinaturalist.v1.observations.API_V1", f"{server.url}/v1")
    monkeypatch.setattr(inaturalist_api, "PER_PAGE", 2)

    def give(path: str) -> None:
        asked = parse_qs(urlsplit(path).query)
        rows, page = ROWS.get(asked["iconic_taxa"][0], []), int(asked["page"][0])
        server.pages.setdefault(path, answer(rows[2 * page - 2 : 2 * page], len(rows)))

    server.at_request = give
    return server


def test_all_pages_of_all_groups_with_their_counts(api: Server, tmp_path: Path, asking: Any) -> None:
    found = species_counts({"place_id": 32961}, ["Insecta", "Aves", "Fungi"], tmp_path, asking())
    assert found.observations == WHOLE
    assert found.species == {group: list(members) for group, members in WHOLE.items()}
    assert len(api.log) == 1 + 1 + 3


def test_the_query_is_what_the_api_understands(api: Server, tmp_path: Path, asking: Any) -> None:
    query = {"lat": 43.6, "lng": 1.4, "radius": 30, "quality_grade": "research"}
    days = {"d1": date(2020, 1, 2), "d2": date(2021, 3, 4)}
    species_counts(query | days, ["Aves"], tmp_path, asking())
    [path] = api.log
    asked = {key: value for key, [value] in parse_qs(urlsplit(path).query).items()}
    assert urlsplit(path).path == "/v1/observations/species_counts"
    assert asked.pop("d1").startswith("2020-01-02")
    assert asked.pop("d2").startswith("2021-03-04")
    assert asked == {
        "lat": "43.6", "lng": "1.4", "radius": "30", "quality_grade": "research", "iconic_taxa": "Aves",
        "hrank": "species", "page": "1", "per_page": "2",
    }  # fmt: skip


def test_answers_at_hand_are_not_asked_for_again(api: Server, tmp_path: Path, asking: Any) -> None:
    species_counts({"place_id": 1}, ["Aves"], tmp_path, asking())
    api.pages = {path: Answer(status=500) for path in api.pages}
    for _ in range(2):
        assert species_counts({"place_id": 1}, ["Aves", "Insecta"], tmp_path, asking()).observations == WHOLE
    assert max(api.times().values()) == 1


def test_a_broken_server_ends_it_and_the_same_call_goes_on(api: Server, tmp_path: Path, asking: Any) -> None:
    species_counts({"place_id": 1}, ["Insecta"], tmp_path / "whole", asking())
    second = api.log[1]
    good, api.log[:] = dict(api.pages), []
    api.pages[second] = Answer(status=502)
    with pytest.raises(NetworkError, match="gave no answer"):
        species_counts({"place_id": 1}, ["Insecta"], tmp_path / "cut", asking(attempts=1))
    api.pages = good
    assert species_counts({"place_id": 1}, ["Insecta"], tmp_path / "cut", asking()).observations["Insecta"]
    assert api.times()[second] == 2
    assert sum(api.times().values()) == 4


def test_a_species_that_moves_to_the_next_page_counts_once(api: Server, tmp_path: Path, asking: Any) -> None:
    species_counts({"place_id": 1}, ["Insecta"], tmp_path / "a", asking())
    rows = ROWS["Insecta"]
    api.pages[api.log[1]] = answer(rows[1:3], 5)  # the second row again
    found = species_counts({"place_id": 1}, ["Insecta"], tmp_path / "b", asking())
    assert found.observations["Insecta"]["Apis mellifera"] == 13


@pytest.mark.parametrize(
    "body",
    [
        b"<html>we are down</html>",
        b'{"error": "Unprocessable"}',
        b"[]",
        b'{"total_results": 1, "results": [{"count": 1}]}',
        b'{"total_results": 1, "results": [{"count": "many", "taxon": {"id": 1, "rank": "species", "name": "a"}}]}',
        b'{"total_results": 1, "results": [{"count": 1, "taxon": {"id": 1, "name": "a"}}]}',
    ],
)
def test_a_changed_answer_shows_what_was_found(api: Server, tmp_path: Path, asking: Any, body: bytes) -> None:
    api.at_request = lambda path: api.pages.setdefault(path, Answer(body)) and None
    with pytest.raises(DataError) as caught:
        species_counts({"place_id": 1}, ["Aves"], tmp_path, asking())
    assert "/v1/observations/species_counts did not answer with species counts" in str(caught.value)
    assert repr(body[:20].decode())[1:-1] in str(caught.value)
    assert (tmp_path / "rejected_Aves_0001.json").read_bytes() == body
    assert not (tmp_path / "Aves_0001.json").exists()


def test_nothing_is_left_in_the_users_home(api: Server, tmp_path: Path, asking: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    species_counts({"place_id": 1}, ["Aves"], tmp_path / "pages", asking())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pages"]


def test_the_groups_are_inaturalists() -> None:
    assert {i: name for i, name in ICONIC_TAXA.items() if i} == {i: name for name, i in GROUPS.items()}
