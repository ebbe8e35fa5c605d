"""The edge code runs on a device that has three packages; and it stays small enough to be read in one sitting."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

import pytest

import pipeline.edge

FILES = sorted(Path(pipeline.edge.__file__).parent.glob("*.py"))
ALLOWED = {"numpy", "PIL", "onnxruntime"}


def imported(file: Path) -> set[str]:
    """Top-level names of what a file imports; "." for what it imports of its own package."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"{file.name} imports from outside of the package"
            names.add("." if node.level else (node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_only_numpy_pillow_and_onnxruntime_besides_the_standard_library(file: Path) -> None:
    optional = {"picamera2"} if file.name == "sources.py" else set()  # imported only where the camera is asked for
    assert imported(file) - set(sys.stdlib_module_names) - {"."} <= ALLOWED | optional


def test_no_dynamic_imports() -> None:
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        assert "__import__" not in text
        assert "importlib" not in text


def code_lines(text: str) -> int:
    """Lines that hold code: neither blank, nor comment, nor docstring."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            documented |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in silent]
    return len({line for token in tokens for line in range(token.start[0], token.end[0] + 1)} - documented)


def test_code_lines_are_counted_as_they_are() -> None:
    assert code_lines('"""Doc\n\nof a file."""\n\nimport a  # why\n\n# why\nb = [\n    1,\n]\n') == 4


def test_less_than_600_lines_of_code() -> None:
    assert sum(code_lines(file.read_text(encoding="utf-8")) for file in FILES) < 600
