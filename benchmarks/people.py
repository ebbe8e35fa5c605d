#!/usr/bin/env python3
"""What a person waits for: help and completion of every command, the package, its extras, the first answer. See people.md.

python benchmarks/people.py                       help, completion, the size of the wheel
python benchmarks/people.py --extras              also install every extra, each into a fresh environment (network, minutes)
python benchmarks/people.py --newcomer PHOTO      also clone, make demo, and classify this photo (network, minutes)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline import cli

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "people.json"
REPEATS = 5
DEVICE = "edge (the bundle's three packages alone)"


def timed(call: Sequence[str | Path], cwd: Path = ROOT, **environment: str) -> tuple[float, float]:
    """Seconds of a command that must succeed: by the clock, and of the processor."""
    start, before = time.perf_counter(), _children()
    subprocess.run(call, cwd=cwd, env={**os.environ, **environment}, check=True, capture_output=True)
    return time.perf_counter() - start, _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def median_times(call: Sequence[str | Path], **environment: str) -> dict[str, float]:
    """Medians over the repeats."""
    found = [timed(call, **environment) for _ in range(REPEATS)]
    clock, processor = (statistics.median(times) for times in zip(*found, strict=True))
    return {"clock_s": round(clock, 3), "processor_s": round(processor, 3)}


def help_times(name: str) -> dict[str, float]:
    """Of `ommatidia NAME --help`."""
    return median_times([sys.executable, "-m", "pipeline.cli", name, "--help"])


def completion_times(line: str, folder: Path) -> dict[str, float]:
    """From the Tab key to the answer, as the shell's function asks."""
    asked = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE": "1", "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
    told = folder / "told"
    result = median_times(
        [sys.executable, "-m", "pipeline.cli"], **asked, _ARGCOMPLETE_STDOUT_FILENAME=str(told), _ARGCOMPLETE_IFS="\n"
    )
    return {**result, "completions": len(told.read_text(encoding="utf-8").split())}


def wheel(folder: Path) -> Path:
    """The wheel, built from a clone of the last commit."""
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", f"file://{ROOT}", folder / "clone"], check=True)
    call = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*call, "-w", folder, folder / "clone"], check=True)
    [built] = folder.glob("*.whl")
    return built


def extras(package: Path, folder: Path) -> dict[str, Any]:
    """Seconds and MB of `pip install` without an extra, then of what each extra adds to that; pip's cache as it is."""
    base = folder / "base"
    found: dict[str, Any] = {"none": install([str(package)], base, 0.0)}
    there = found["none"]["mb"]
    for name in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]:
        own = folder / name
        subprocess.run(["cp", "--archive", "--link", base, own], check=True)
        found[name] = install([f"{package}[{name}]"], own, there)
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    three = [line for line in lines if line.startswith(("onnxruntime==", "numpy==", "pillow=="))]
    return {**found, DEVICE: install(three, folder / "device", 0.0)}


def install(wanted: list[str], environment: Path, before: float) -> dict[str, float]:
    """Into a virtual environment, a new one where it is not there; MB beyond `before`."""
    if not environment.exists():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    clock, processor = timed([python, "-m", "pip", "install", "--quiet", "--no-compile", *wanted])
    size = sum(file.lstat().st_size for file in environment.rglob("*") if file.is_file()) / 1e6
    return {"clock_s": round(clock, 1), "processor_s": round(processor, 1), "mb": round(size - before, 1)}


def newcomer(photo: Path, folder: Path) -> list[dict[str, Any]]:
    """The three commands from nothing to the first answer to a photo of one's own, each with its seconds."""
    project = folder / "project"
    classify = [".venv/bin/python", "output/demo/bundle/classify.py", str(photo.resolve())]
    calls = [
        (["git", "clone", f"file://{ROOT}", str(project)], folder),
        (["make", "demo"], project),
        (classify, project),
    ]
    told = []
    for call, cwd in calls:
        clock, processor = timed(call, cwd)
        told.append({"command": " ".join(call[:2]), "clock_s": round(clock, 1), "processor_s": round(processor, 1)})
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", action="store_true")
    parser.add_argument("--newcomer", type=Path, metavar="PHOTO")
    given = parser.parse_args()
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        package = wheel(folder)
        result |= {
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg(),
            "repeats": REPEATS,
            "wheel_bytes": package.stat().st_size,
            "help": {command: help_times(command) for command in cli.scripts()},
            "completion": {line: completion_times(line, folder) for line in ("ommatidia ", "ommatidia train --")},
        }
        if given.extras:
            result["extras"] = {"load_average": os.getloadavg(), "installs": extras(package, folder)}
        if given.newcomer:
            result["newcomer"] = {"load_average": os.getloadavg(), "commands": newcomer(given.newcomer, folder)}
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
