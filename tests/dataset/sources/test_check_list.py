"""Check-list pages: what is read of them, where the list ends, and what is told when they have changed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.dataset.sources.check_list import crawl, read_page
from pipeline.errors import DataError, NetworkError, Refused

from .server import Answer, Server, check_list_page

PAGES = [
    {"Aves": ["Pica pica", "Ardea alba"], "Insecta": ["Vanessa atalanta"]},
    {"Insecta": ["Apis mellifera", "Vanessa atalanta"]},
    {"Insecta": ["Pieris rapæ"], "Plantae": ["Bellis perennis"]},
]
WHOLE = {
    "Aves": ["Ardea alba", "Pica pica"],
    "Insecta": ["Apis mellifera", "Pieris rapæ", "Vanessa atalanta"],
    "Plantae": ["Bellis perennis"],
}


@pytest.fixture
def base(server: Server) -> str:
    """The address of a list of three pages; the fourth lists nothing."""
    for number, groups in enumerate([*PAGES, {}], 1):
        server.pages[f"/check_lists/1?page={number}&view=plain"] = Answer(check_list_page(groups))
    return f"{server.url}/check_lists/1?page="


def page(number: int) -> str:
    return f"/check_lists/1?page={number}&view=plain"


def test_all_pages_make_one_list_without_repetition(base: str, tmp_path: Path, asking: Any) -> None:
    assert crawl(base, 104, tmp_path, asking()) == WHOLE


def test_the_crawl_ends_by_itself_after_the_last_page(base: str, server: Server, tmp_path: Path, asking: Any) -> None:
    crawl(base, 104, tmp_path, asking())
    assert server.log == [page(n) for n in (1, 2, 3, 4)]


def test_total_pages_is_an_upper_bound_and_one_that_cuts_the_list_is_told(
    base: str, server: Server, tmp_path: Path, asking: Any, lines: Any
) -> None:
    assert crawl(base, 2, tmp_path, asking())["Insecta"] == ["Apis mellifera", "Vanessa atalanta"]
    assert server.log == [page(1), page(2)]
    assert lines() == ["  page 2 is the last that web_crawl.total_pages allows; there may be more species behind it"]
    crawl(base, 4, tmp_path, asking())
    assert lines() == []


@pytest.mark.parametrize("end", ["repeats the last page", "is not there"])
def test_other_ways_to_end(base: str, server: Server, tmp_path: Path, asking: Any, end: str) -> None:
    server.pages[page(4)] = server.pages[page(3)] if end == "repeats the last page" else Answer(status=404)
    for _ in range(2):
        assert crawl(base, 104, tmp_path, asking()) == WHOLE
    assert server.times() == {page(n): 1 for n in (1, 2, 3, 4)}


def test_pages_at_hand_are_not_asked_for_again(base: str, server: Server, tmp_path: Path, asking: Any) -> None:
    server.pages[page(3)] = Answer(status=500)
    with pytest.raises(NetworkError, match="gave no answer"):
        crawl(base, 104, tmp_path, asking())
    server.pages[page(3)] = Answer(check_list_page(PAGES[2]))
    assert crawl(base, 104, tmp_path, asking()) == WHOLE
    assert server.times() == {page(1): 1, page(2): 1, page(3): 6 + 1, page(4): 1}


def test_page_one_that_is_not_there_is_an_error(base: str, server: Server, tmp_path: Path, asking: Any) -> None:
    server.pages[page(1)] = Answer(b"gone", 404)
    with pytest.raises(Refused, match=r"page=1&view=plain is not given: status 404"):
        crawl(base, 104, tmp_path, asking())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_that_takes_nothing_more_ends_it_and_the_same_call_goes_on(
    base: str, server: Server, tmp_path: Path, asking: Any, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    real, calls = os.truncate, []

    def refused(path: Path, length: int) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(error, os.strerror(error), str(path))
        real(path, length)

    monkeypatch.setattr(os, "truncate", refused)
    with pytest.raises(OSError, match=os.strerror(error)):
        crawl(base, 104, tmp_path, asking())
    assert [path.name for path in tmp_path.iterdir()] == ["page_0001.html"]
    assert crawl(base, 104, tmp_path, asking()) == WHOLE
    assert server.times() == {page(1): 1, page(2): 2, page(3): 1, page(4): 1}


CHANGED = {
    "headings": check_list_page(PAGES[1]).replace(b"<h2", b"<h3").replace(b"</h2", b"</h3"),
    "lists": check_list_page(PAGES[1]).replace(b"listed_taxa", b"taxa"),
    "items": check_list_page(PAGES[1]).replace(b'class="clear"', b'class="item"'),
    "group": check_list_page(PAGES[1]).replace(b"othernames", b"names"),
    "other page": b"<html><title>Back soon</title><body>We are mending it</body></html>",
    "no page": b"\x00\xff\x00 not HTML",
}


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("what", CHANGED)
def test_a_changed_structure_shows_what_was_found(
    base: str, server: Server, tmp_path: Path, asking: Any, what: str, number: int
) -> None:
    server.pages[page(number)] = Answer(CHANGED[what])
    with pytest.raises(DataError) as caught:
        crawl(base, 104, tmp_path, asking())
    message = str(caught.value)
    assert f"page={number}&view=plain has no species where they should be" in message
    headings, lists = CHANGED[what].count(b"<h2"), CHANGED[what].count(b"listed_taxa")
    assert f"{headings} h2.title, {lists} ul.listed_taxa, " in message
    assert "its structure has changed, or it is another page" in message
    rejected = tmp_path / f"rejected_page_{number:04}.html"
    assert f"(the page is kept as {rejected})" in message
    assert rejected.read_bytes() == CHANGED[what]
    server.pages[page(number)] = Answer(check_list_page(PAGES[number - 1]))  # mended: it goes on
    assert crawl(base, 104, tmp_path, asking()) == WHOLE


def test_names_in_the_margin_do_not_hide_the_end(base: str, server: Server, tmp_path: Path, asking: Any) -> None:
    margin = b'<p>Last seen: <i class="sciname">Pica pica</i></p></body>'
    for number in (1, 2, 3, 4):
        answer = server.pages[page(number)]
        assert isinstance(answer, Answer)
        server.pages[page(number)] = Answer(answer.body.replace(b"</body>", margin))
    assert crawl(base, 104, tmp_path, asking()) == WHOLE


def test_headings_without_a_name_or_a_list_are_passed_over() -> None:
    html = check_list_page({"Aves": ["Pica pica"]}).decode()
    html = html.replace("<body>", '<body><h2 class="title">Not a group</h2><ul class="listed_taxa"></ul>')
    html = html.replace(
        "</body>", '<h2 class="title">x<span class="othernames"><b class="sciname">Fungi</b></span></h2>'
    )
    html += (
        '<h2 class="title">No group</h2><ul class="listed_taxa"><li class="clear"><i class="sciname">X y</i></li></ul>'
    )
    assert read_page(html.encode()).species == {"Aves": ["Pica pica"]}


def test_names_are_in_one_line_and_unescaped() -> None:
    html = check_list_page({"Insecta": ["Zygaena\n  filipendulae", "A &amp; b", "Pieris rapæ"]})
    assert read_page(html).species == {"Insecta": ["Zygaena filipendulae", "A & b", "Pieris rapæ"]}
