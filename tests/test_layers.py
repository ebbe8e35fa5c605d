"""Imports run one way, from the scripts down to the edge."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipeline

ROOT = Path(pipeline.__file__).parent
SHARED, TOP = "shared modules", {"cli", "everything", "outcome", "sweep", "wizard"}
LAYERS = [  # from the ground up; what stands beside one another does not import one another
    {"edge", "field", "sections"},
    {SHARED},
    {"dataset", "models"},
    {"compression", "evaluation", "training"},
    {"deploy", "explaining"},
    {"bulk", "page", "serving"},
    TOP,
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
FILES = sorted(ROOT.rglob("*.py"))


def room(module: str) -> str:
    """The room of a module below pipeline, e.g. dataset.manifest."""
    first = module.partition(".")[0]
    return first if first in LEVEL else SHARED


def imported(file: Path) -> Iterator[str]:
    """Modules below pipeline that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("pipeline.") for name in names if name.startswith("pipeline."))


def test_every_room_has_its_layer() -> None:
    folders = {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()}
    assert folders == LEVEL.keys() - TOP - {SHARED}
    assert all((ROOT / f"{name}.py").is_file() for name in TOP)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_run_one_way(file: Path) -> None:
    mine = room(".".join(file.relative_to(ROOT).with_suffix("").parts))
    wrong = [
        name for name in imported(file) if (to := room(name)) != mine and LEVEL[to] >= LEVEL[mine] and mine not in TOP
    ]
    assert not wrong, f"{mine} may not import {', '.join(wrong)}"
