"""Calls of the bundle's command, and its results read back."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from toy import COLOURS

APIS, PIERIS = COLOURS["Apis mellifera"], COLOURS["Pieris rapæ"]
ROOT = Path(__file__).resolve().parents[2]
CALL = "import sys; from pathlib import Path; from pipeline.edge.classify import main; "
CALL += "sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))"


def process(code: str, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, timeout=120, check=False)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def json_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
