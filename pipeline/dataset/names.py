"""Scientific names: normalise, compare, and look up synonyms."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Collection
from pathlib import Path

from rapidfuzz import fuzz, process

from pipeline.errors import DataError

NEAR = 85  # least similarity in per cent; "Apis melifera" and "Apis mellifera" have 96
LONGEST = 44  # letters of a name in a picture
ROWS = 256  # names compared with all candidates at a time; bounds the memory
BINOMIAL = re.compile(r"(?:[×x]\s*)?([A-Z][a-z-]+)\s+(?:\([^)]*\)\s*)?(?:[×x]\s*(?=\S{2}))?([a-z][a-z-]+)\b(.*)")
NO_EPITHET = {"cf", "aff", "nr", "sp", "spp", "subsp", "ssp", "var"}
AUTHOR = re.compile(r"[.,&(\d]")  # "L.", "(Linnaeus, 1758)", "Hill & Smith", "var. alba"
SUBSPECIES = re.compile(r"(\s[a-z-]+){1,3}")


def short(name: str) -> str:
    """A name shortened for a picture: one line, at most LONGEST letters."""
    name = " ".join(name.split())
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def normalise(name: str) -> str:
    """The species of a scientific name in lower case: without accents, author, hybrid sign, subgenus and subspecies.

    What is no such name ("Great Blue Heron", "Apis sp.", a formula of hybrids) only loses case, accents and
    superfluous spaces, so that no two species become one.
    """
    letters = name.replace("_", " ")
    if not letters.isascii():
        letters = "".join(c for c in unicodedata.normalize("NFKD", letters) if not unicodedata.combining(c))
    plain = " ".join(letters.split())
    found = BINOMIAL.fullmatch(plain)
    if found:
        genus, epithet, rest = found.groups()
        if epithet not in NO_EPITHET and (not rest or AUTHOR.search(rest) or SUBSPECIES.fullmatch(rest)):
            return f"{genus} {epithet}".lower()
    return re.sub(r"\sx\s", " × ", plain.lower())


def is_genus(name: str) -> bool:
    """Whether a name is only a genus: "Apis", "Apis sp.", "Apis spp."."""
    return re.fullmatch(r"[A-Z][a-z-]+(\s+spp?\.?)?", name.strip()) is not None


def nearest(names: Collection[str], candidates: Collection[str]) -> dict[str, str]:
    """For each name the most similar candidate with at least NEAR per cent, as a hint for people."""
    ordered, known = sorted(names), sorted(candidates)
    if not ordered or not known:
        return {}
    keys = [normalise(name) for name in known]
    result: dict[str, str] = {}
    for start in range(0, len(ordered), ROWS):
        part = ordered[start : start + ROWS]
        scores = process.cdist([normalise(name) for name in part], keys, scorer=fuzz.ratio, score_cutoff=NEAR)
        best = scores.argmax(axis=1)
        result |= {name: known[i] for name, i, row in zip(part, best, scores, strict=True) if row[i]}
    return result


def read_synonyms(path: Path) -> dict[str, str]:
    """{synonym: accepted name}, normalised, from a CSV with these two columns; chains are followed to their end."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise DataError(f"no table of synonyms at {path} (region.synonyms)") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table of synonyms: {error}") from error
    direct = {}
    for number, row in enumerate(rows, 2):
        synonym, accepted = row.get("synonym"), row.get("accepted")
        if not synonym or not accepted:
            raise DataError(
                f"{path}, line {number}: each row needs a synonym and an accepted name, in columns so called"
            )
        direct[normalise(synonym)] = normalise(accepted)
    return {synonym: _end(direct, synonym, path) for synonym in direct}


def _end(direct: dict[str, str], name: str, path: Path) -> str:
    passed = {name}
    while (name := direct[name]) in direct:
        if name in passed:
            raise DataError(f"{path}: the synonyms of {name} lead in a circle")
        passed.add(name)
    return name
