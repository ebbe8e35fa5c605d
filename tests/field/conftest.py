"""Nobody cuts the power of a test: nothing waits for the disk."""

from __future__ import annotations

import pytest

from pipeline.field import spool


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SYNCHRONOUS", "off")
