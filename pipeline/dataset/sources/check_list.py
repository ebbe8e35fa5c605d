"""A region's species from iNaturalist's check-list pages (HTML), page by page to the last one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from bs4 import BeautifulSoup, Tag

from pipeline.console import log
from pipeline.dataset.sources.pages import Get, kept
from pipeline.errors import DataError, Refused


class Page(NamedTuple):
    """Contents of one page. strays: names outside any list; seen: what was found, for the error message."""

    species: dict[str, list[str]]
    title: str
    strays: int
    seen: str


def crawl(base_url: str, total_pages: int, folder: Path, get: Get) -> dict[str, list[str]]:
    """{group: [species]} of all pages, sorted. Pages are kept in `folder`; total_pages is an upper bound.

    The list ends before total_pages with a page that lists nothing, repeats the one before, or is not there (404).
    """
    found: dict[str, set[str]] = {}
    first = previous = None
    for number in range(1, total_pages + 1):
        page = _page(base_url, number, folder, get, first)
        if page is None or not page.species or page.species == previous:
            log.debug("  the check list ends before page %d", number)
            break
        first, previous = first or page, page.species
        for group, names in page.species.items():
            found.setdefault(group, set()).update(names)
        log.debug("  page %d: %d species", number, sum(map(len, page.species.values())))
    else:
        log.warning(
            "  page %d is the last that web_crawl.total_pages allows; there may be more species behind it", total_pages
        )
    return {group: sorted(names) for group, names in sorted(found.items())}


def _page(base_url: str, number: int, folder: Path, get: Get, first: Page | None) -> Page | None:
    url = f"{base_url}{number}&view=plain"

    def fetch() -> bytes:
        try:
            return get(url)
        except Refused as error:
            if first is None or error.status != 404:
                raise
            return b""  # stored as an empty page: past the end

    def check(body: bytes) -> None:
        if body:
            _check(read_page(body), url, first)

    body = kept(folder / f"page_{number:04}.html", fetch, check)
    return read_page(body) if body else None


def _check(page: Page, url: str, first: Page | None) -> None:
    """A page without species is the end of the list only if it is of the same kind as the first one."""
    if page.species or (first is not None and page.title == first.title and page.strays <= first.strays):
        return
    raise DataError(
        f"{url} has no species where they should be (h2.title with .othernames .sciname, then ul.listed_taxa with "
        f"li.clear .sciname); found {page.seen}: its structure has changed, or it is another page"
    )


def read_page(html: bytes) -> Page:
    """Each h2.title names a group; the next ul.listed_taxa before the next heading lists its species."""
    soup = BeautifulSoup(html, "html.parser")
    species: dict[str, list[str]] = {}
    headings, lists, names = (soup.select(what) for what in ("h2.title", "ul.listed_taxa", ".sciname"))
    strays = len(names)
    for heading in headings:
        group, listed = heading.select_one(".othernames .sciname"), _list_of(heading)
        if group is None or listed is None:
            continue
        members = [_text(name) for name in listed.select("li.clear .sciname")]
        if members:
            species.setdefault(_text(group), []).extend(members)
            strays -= len(members) + 1
    title = _text(soup.title) if soup.title else ""
    seen = (
        f"the title {title!r}, {len(headings)} h2.title, {len(lists)} ul.listed_taxa, {len(names)} .sciname "
        f"in {len(html):,} bytes"
    )
    return Page(species, re.sub(r"\d+", "", title), strays, seen)


def _list_of(heading: Tag) -> Tag | None:
    for sibling in heading.find_next_siblings():
        if sibling.name == "h2":
            return None
        if sibling.name == "ul" and "listed_taxa" in sibling.get_attribute_list("class"):
            return sibling
    return None


def _text(tag: Tag) -> str:
    return " ".join(tag.get_text().split())
