"""A region's species and their observation counts from iNaturalist's API."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from pyinaturalist.request_params import preprocess_request_params
from pyinaturalist.v1.observations import get_observation_species_counts

from pipeline.console import log
from pipeline.dataset.sources.listing import Listing, listing
from pipeline.dataset.sources.pages import Get, kept
from pipeline.errors import DataError

PER_PAGE = 500  # the API's maximum
BELOW_SPECIES = ("subspecies", "variety", "form")


class KeptSession:
    """The session of pyinaturalist, with our network policy; a stored answer is not requested again.

    pyinaturalist's own session keeps its answers, rates and lock files in the user's home.
    """

    def __init__(self, folder: Path, get: Get) -> None:
        self.folder, self.get = folder, get

    def request(self, method: str, url: str, **params: Any) -> KeptAnswer:
        """A GET; other methods are not used here."""
        query = urlencode(preprocess_request_params(params))
        path = self.folder / f"{params['iconic_taxa']}_{params['page']:04}.json"
        return KeptAnswer(kept(path, lambda: self.get(f"{url}?{query}"), lambda body: _check(body, url)))


class KeptAnswer:
    """The part of a response that pyinaturalist reads."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)


def species_counts(query: Mapping[str, Any], groups: Iterable[str], folder: Path, get: Get) -> Listing:
    """Species of the groups with their number of observations; the query is one of /observations/species_counts.

    Observations of subspecies, varieties and forms count for their species; hybrids and higher ranks are left out.
    Answers are kept in `folder`, one file per group and page.
    """
    session = KeptSession(folder, get)
    found: dict[str, dict[str, int]] = {}
    for group in sorted(groups):
        members = found.setdefault(group, {})
        seen: set[int] = set()
        for page in range(1, 10_000):
            answer = get_observation_species_counts(
                **query, iconic_taxa=group, hrank="species", page=page, per_page=PER_PAGE, session=session
            )
            for row in answer["results"]:
                taxon = row["taxon"]
                if taxon["id"] in seen:  # counts that change between two requests shift rows from page to page
                    continue
                seen.add(taxon["id"])
                if name := _species(taxon):
                    members[name] = members.get(name, 0) + row["count"]
            if not answer["results"] or page * PER_PAGE >= answer["total_results"]:
                break
        log.debug("  %s: %d species", group, len(members))
    return listing(found)


def _species(taxon: Mapping[str, Any]) -> str | None:
    if taxon["rank"] == "species":
        return str(taxon["name"])
    return " ".join(str(taxon["name"]).split()[:2]) if taxon["rank"] in BELOW_SPECIES else None


def _check(body: bytes, url: str) -> None:
    """DataError unless the answer has every field that is read."""
    try:
        data = json.loads(body)
        for row in data["results"]:
            if not isinstance(row["count"], int) or not isinstance(row["taxon"]["id"], int):
                raise TypeError(f"a count or an id that is no number: {row['count']!r}, {row['taxon']['id']!r}")
            _species(row["taxon"])
        int(data["total_results"])
    except (ValueError, TypeError, KeyError) as error:
        start = body[:120].decode(errors="replace")
        raise DataError(
            f"{url} did not answer with species counts ({type(error).__name__}: {error}); found {start!r}"
        ) from error
