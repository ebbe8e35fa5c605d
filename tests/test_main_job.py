"""The main job from beginning to end: photos in, bundle out; again; and killed on the way."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.config import load_config
from pipeline.dataset.demo.make import DemoSet, make_demo
from pipeline.dataset.stages import run_stages
from pipeline.edge.cascade import load_cascade
from pipeline.training.run import train_role

ROOT = Path(__file__).resolve().parents[1]
CACHE = "cache_0.6_0"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoSet:
    return make_demo(tmp_path_factory.mktemp("demo"), seed=0, scale=0.08, workers=1)


def write_config(root: Path, demo: DemoSet) -> Path:
    """The demo's configuration, with small networks and few epochs."""
    common: dict[str, Any] = {"recipe": {"size": 64, "crop": 1.0}, "batch_size": 16, "workers": 0}
    settings = {
        "global": {"included_classes": ["Arachnida", "Insecta"]},
        "paths": {
            "src_dataset": str(demo.photos),
            "dst_dataset": str(root / "region"),
            "web_crawl_output_json": str(demo.species_list),
            "output_dir": str(root / "output"),
            "models_dir": str(root / "models"),
        },
        "train_val_split": {"train_size": 0.6, "val_size": 0.2, "random_state": 0, "dominant_threshold": 0.6},
        "dataset": {"workers": 1},
        "main": {"model": "test_efficientnet", "epochs": 3, **common},
        "cache": {"epochs": 1, "warmup_epochs": 0, "distill": {"teacher": "main"}, **common},
        "quantize": {"calibration_images": 16, "parity_images": 8},
        "route": {"max_drop": 0.5},
        "monte_carlo": {"runs": 100, "samples": 50},
    }
    path = root / "toy.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


def run(path: Path) -> int:
    """run.py in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["run.py", "--config", str(path)])
        patch.syspath_prepend(str(ROOT))
        code = importlib.import_module("run").main()
    assert isinstance(code, int)
    return code


def kill_when(path: Path, appears: Path) -> None:
    """run.py in a process of its own, killed as soon as a file appears."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}  # sums in the same order as here
    command = [sys.executable, "run.py", "--config", str(path)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as running:
        start = time.monotonic()
        while running.poll() is None and not appears.exists() and time.monotonic() - start < 120:
            time.sleep(0.005)
        running.send_signal(signal.SIGKILL)
        _, told = running.communicate()
    assert appears.exists(), told
    assert running.returncode == -signal.SIGKILL, told


@pytest.fixture(scope="module")
def whole(demo: DemoSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the main job was killed while it trained, killed while it evaluated, and then ended."""
    root = tmp_path_factory.mktemp("whole")
    config = write_config(root, demo)
    kill_when(config, appears=root / "models" / "toy" / "main" / "last.pt")
    assert not (root / "models" / "toy" / CACHE).exists()
    kill_when(config, appears=root / "output" / "toy" / "predictions" / "main.parquet")
    assert not (root / "output" / "toy" / "metrics.json").exists()
    assert run(config) == 0
    return root


def content(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every file: when it was written, and what is in it."""
    found = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def test_all_that_is_promised_is_there(whole: Path) -> None:
    output = whole / "output" / "toy"
    promised = [output / "dataset" / f"{name}.parquet" for name in ("dataset_manifest", "train", "val", "test")]
    promised += [output / "dataset" / "plots" / "splits.png", output / "metrics.json", output / "config.yaml"]
    promised += [output / "report.html", output / "report.md"]
    promised += [output / "monte_carlo" / name for name in ("toy_both.json", "toy_both_runs.csv")]
    promised += [output / "bundle" / name for name in ("cascade.json", "classify.py", "main.onnx", f"{CACHE}.onnx")]
    for model in (CACHE, "main"):
        folder = whole / "models" / "toy" / model
        names = ["weights.safetensors", "model.json", "training_metrics.csv", "model.onnx", "model.int8.onnx"]
        promised += [folder / name for name in (*names, "export.json", "quantization_report.json")]
        promised += [output / "predictions" / f"{model}{kind}.parquet" for kind in ("", ".int8")]
        promised += [output / "evaluation" / f"report_{model}{kind}.csv" for kind in ("", ".int8")]
    assert [path for path in promised if not path.is_file()] == []
    assert not list(whole.rglob("last.pt"))
    assert not list((whole / "output" / "toy").glob(".bundle*"))


def test_the_bundle_answers(whole: Path, demo: DemoSet) -> None:
    cascade = load_cascade(whole / "output" / "toy" / "bundle")
    photo = min(demo.photos.rglob("*.jpg"))
    answer = cascade.classify(photo)
    assert answer.status == "ok"
    assert answer.species in cascade.stages[-1].model.labels


def test_a_second_time_every_step_is_up_to_date_and_no_file_changes(
    whole: Path, lines: Callable[[], list[str]]
) -> None:
    before = content(whole)
    assert run(whole / "toy.yaml") == 0
    told = lines()
    steps = [line.split(":")[0].replace("up to date", "").strip() for line in told if "up to date" in line]
    assert steps == [
        "analyse", "match", "copy", "verify", "split", "label", "manifest", "plots", "test_sets", "card",
        "train", "train",
        f"quantize  {CACHE}", "quantize  main",
        f"predict   {CACHE}", "predict   main", f"predict   {CACHE}.int8", "predict   main.int8", "eval",
        f"predict   {CACHE}.int8", "predict   main.int8", "simulate", "deploy", "report",
    ]  # fmt: skip
    figures = [line for line in told if "up to date" not in line]
    assert all(line.startswith(("monte carlo of both", "  ", "done ")) for line in figures)
    assert content(whole) == before


def test_killed_twice_it_ended_as_if_it_had_never_been_killed(whole: Path, demo: DemoSet, tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, demo))
    run_stages(config)
    train_role(config, "main")
    train_role(config, "cache")
    for name in ("dataset_manifest.parquet", "train.parquet", "val.parquet", "test.parquet"):
        ours, theirs = (root / "output" / "toy" / "dataset" / name for root in (whole, tmp_path))
        assert ours.read_bytes() == theirs.read_bytes(), name
    for model in (CACHE, "main"):
        for name in ("weights.safetensors", "model.json"):
            ours, theirs = (root / "models" / "toy" / model / name for root in (whole, tmp_path))
            assert ours.read_bytes() == theirs.read_bytes(), f"{model}/{name}"
