"""torchvision can be imported even where its compiled operators do not load, and is left alone where they do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.models import torchvision_shim

ROOT = Path(__file__).resolve().parents[2]


def python(code: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that knows the repository, and first of all `path`."""
    places = [str(place) for place in (path, ROOT) if place]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


TRIED_TWICE = """
try:
    import torchvision
    print("imports")
except RuntimeError as error:
    print(error)
from pipeline.models.torchvision_shim import ensure
print(ensure(), ensure())
import torchvision
print(torchvision.__name__)
"""
MENDED = ["operator torchvision::nms does not exist", "True True", "torchvision"]


def test_torchvision_imports_after_ensure_and_is_mended_only_where_it_would_not() -> None:
    done = python(TRIED_TWICE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() in (["imports", "False False", "torchvision"], MENDED)


def test_missing_operators_are_declared(tmp_path: Path) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "_C.so").write_bytes(b"built for another torch")
    (package / "__init__.py").write_text(
        "import torch\n"
        "@torch.library.register_fake('torchvision::nms')\n"
        "def nms(dets, scores, threshold): return dets.new_empty(0)\n"
    )
    done = python(TRIED_TWICE, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == MENDED


def test_whole_torchvision_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(torchvision_shim, "_declared", [])
    monkeypatch.setattr(torchvision_shim, "_operators_load", lambda: True)
    assert torchvision_shim.ensure() is False
    assert torchvision_shim._declared == []


def test_imported_torchvision_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", sys)
    monkeypatch.setattr(torchvision_shim, "_declared", [])
    monkeypatch.setattr(torchvision_shim, "_operators_load", lambda: False)
    assert torchvision_shim.ensure() is False
