"""Small files in the forms of the formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")


def write(root: Path, **files: Any) -> None:
    """Text files, one per keyword (name_txt, name_json); lists and dictionaries become JSON."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = root / name.replace("_txt", ".txt").replace("_json", ".json").replace("_csv", ".csv")
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
