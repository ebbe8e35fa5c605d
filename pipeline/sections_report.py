"""The section of the report: what is drawn at one's own choice."""

from __future__ import annotations

from pydantic import Field

from pipeline.sections import Section


class Report(Section):
    curves: list[str] = Field(
        [],
        max_length=7,
        description="species whose precision-recall and ROC curves are named; empty: the five of least average precision",
    )
