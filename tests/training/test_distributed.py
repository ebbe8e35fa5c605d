"""Two processes train as one; a lost one is started again and the training goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import train as script
from pipeline.config import Config
from pipeline.models.checkpoint import load_model
from pipeline.training import distributed
from pipeline.training.losses import criterion
from pipeline.training.run import train_role

from .conftest import settings

ROOT = Path(script.__file__).parent
SETTINGS = (
    "main.model=test_convnext", "main.epochs=12", "main.batch_size=7", "main.recipe.size=32", "main.ema=0.5",
    "main.patience=12", "main.class_weights=inverse", "main.sampler=square_root", "main.optimizer.accumulate=2",
    "main.freeze.frozen=[stages.0]", "main.freeze.unfreeze={2: [all]}",
)  # fmt: skip


def children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the workers in /proc")
def test_two_processes_of_which_one_is_killed_learn_what_one_process_learns(
    toy: Callable[..., Config], tmp_path: Path
) -> None:
    config = toy(*SETTINGS, "experiment=two")
    words = [word for setting in (*SETTINGS, "experiment=two") for word in ("--set", setting)]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "1",
    ]
    command += ["--monitor-interval", "0.1", "train.py", "--config", str(tmp_path / "toy.yaml"), *words, "main"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    last = config.models / "main" / "last.pt"
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as running:
        until = time.monotonic() + 300
        while not last.is_file() and running.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        os.kill(children(running.pid)[-1], signal.SIGKILL)
        _, said = running.communicate(timeout=300)
    assert running.returncode == 0, said
    assert "main: going on after epoch" in said
    assert said.count("main epoch 12/12") == 1  # one writer
    (alone,) = train_role(toy(*SETTINGS, "experiment=one"), "main")
    two, one = (pd.read_csv(folder / "training_metrics.csv").drop(columns="seconds") for folder in (last.parent, alone))
    pd.testing.assert_frame_equal(two, one, rtol=1e-3, atol=1e-4)
    ours, theirs = (load_model(folder)[1].training for folder in (last.parent, alone))
    assert (ours["epoch"], ours["finished"]) == (theirs["epoch"], True)
    assert not last.exists()


@pytest.mark.parametrize(("batch", "processes"), [(7, 2), (8, 2), (5, 4), (64, 8)])
def test_unequal_parts_make_the_weighted_mean_of_the_whole_batch(
    batch: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(batch, 3, generator=drawn), torch.randint(3, (batch,), generator=drawn)
    weigh = criterion(settings(class_weights="inverse"), np.array([9, 3, 1]), torch.device("cpu"))
    parts = [(logits[r::processes], labels[r::processes]) for r in range(processes)]
    together = torch.stack([weigh.mass(part) for _, part in parts]).sum()
    monkeypatch.setattr(distributed, "world", lambda: processes)
    monkeypatch.setattr(distributed, "total", lambda _: together)
    means = [weigh(part, wanted) * distributed.factors(weigh.mass(wanted)) for part, wanted in parts]
    torch.testing.assert_close(torch.stack(means).mean(), weigh(logits, labels))
