"""What sends photos runs on the device with the standard library alone."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import pipeline.field
from pipeline.edge import cascade, labels
from pipeline.field import link, sender

FILES = sorted(Path(pipeline.field.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_only_the_standard_library(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= set(sys.stdlib_module_names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1 or (node.level == 0 and (node.module or "").split(".")[0] in sys.stdlib_module_names)


def test_the_words_are_those_of_the_cascade() -> None:
    assert (link.OTHER, sender.UNKNOWN) == (labels.OTHER, cascade.UNKNOWN)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_wall_clock(file: Path) -> None:
    """A clock that jumps changes nothing, for nobody looks at it: of time, the monotonic clock alone is used."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time":
            assert node.attr == "monotonic"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            assert getattr(node, "module", "") != "time"
            assert "datetime" not in {getattr(node, "module", ""), *(alias.name for alias in node.names)}
            assert all(alias.asname is None for alias in node.names if alias.name == "time")
