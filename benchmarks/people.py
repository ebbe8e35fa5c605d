#!/usr/bin/env python3
"""What a person waits for: help of every command, and the size of the package. See people.md.

python benchmarks/people.py
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline import cli

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "people.json"
REPEATS = 5


def help_times(name: str) -> dict[str, float]:
    """Median seconds of `ommatidia NAME --help`: by the clock, and of the processor."""
    clock, processor = [], []
    for _ in range(REPEATS):
        start, before = time.perf_counter(), _children()
        call = [sys.executable, "-m", "pipeline.cli", name, "--help"]
        subprocess.run(call, cwd=ROOT, check=True, capture_output=True)
        clock.append(time.perf_counter() - start)
        processor.append(_children() - before)
    return {"clock_s": round(statistics.median(clock), 3), "processor_s": round(statistics.median(processor), 3)}


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def wheel_bytes() -> int:
    """Size of the wheel, built from a clone of the last commit."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", f"file://{ROOT}", f"{folder}/clone"], check=True)
        call = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        subprocess.run([*call, "-w", folder, f"{folder}/clone"], check=True)
        [wheel] = Path(folder).glob("*.whl")
        return wheel.stat().st_size


if __name__ == "__main__":
    result = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "repeats": REPEATS,
        "wheel_bytes": wheel_bytes(),
        "help": {name: help_times(name) for name in cli.scripts()},
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
