"""The page that describes the files names every field that the code writes."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from pipeline.bulk.work import SCHEMA
from pipeline.compression.run import OUTPUTS
from pipeline.dataset.sources.download import COLUMNS
from pipeline.edge.results import COLUMNS as RESULTS
from pipeline.explaining.faithful import FIGURES, summary
from pipeline.field.spool import SCHEMA as SPOOL
from pipeline.serving.schemas import About, Answers, Candidate, Photo, Problem

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"
FIELDS = [
    (f"`{model.__name__}`", list(model.model_fields)) for model in (Answers, Photo, Candidate, Problem, About)
] + [
    ("exported files", list(OUTPUTS)),
    ("rows", [*SCHEMA.names, *RESULTS]),
    ("ledger", [name for name in COLUMNS if name in ("image_path", "url", "sha256", "ok", "reason")]),
    ("spool", re.findall(r"create table if not exists (\w+)", SPOOL)),
    ("columns of the spool", re.findall(r"(?:\(|^ *|, )(\w+) (?:integer|real|text|blob)", SPOOL, re.M)),
]


@pytest.mark.parametrize(("what", "fields"), FIELDS, ids=[what for what, _ in FIELDS])
def test_every_field_is_named(what: str, fields: list[str]) -> None:
    told = set(re.findall(r"`([^`]+)`", PAGE.read_text(encoding="utf-8")))
    assert fields
    assert [name for name in fields if name not in told] == []


def test_the_columns_of_the_check_are_named() -> None:
    scores = pd.DataFrame([{"photo": 0, "map": "random", **dict.fromkeys(FIGURES, 0.0)}])
    told = set(re.findall(r"`([^`]+)`", PAGE.read_text(encoding="utf-8")))
    columns = {name.removesuffix("_low_95").removesuffix("_high_95") for name in summary(scores, "main", 0).columns}
    assert columns <= told
