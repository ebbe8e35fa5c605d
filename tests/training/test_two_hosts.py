"""Two network namespaces play two hosts that train as one; one of them is cut off and started again.

It needs root, iproute2 and some 40 seconds of processor time: it runs where OMMATIDIA_TWO_HOSTS=1.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

import train as script
from pipeline.config import Config
from pipeline.models.checkpoint import load_model
from pipeline.training.run import train_role

ROOT = Path(script.__file__).parent
SETTINGS = (
    "main.model=test_convnext",
    "main.epochs=12",
    "main.batch_size=7",
    "main.recipe.size=32",
    "main.patience=12",
)
FIRST, SECOND = "192.0.2.1", "192.0.2.2"  # for documentation: nobody's
WAIT = 600  # seconds


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Two namespaces with a cable between them; its ends are called `cable` in both."""
    if os.environ.get("OMMATIDIA_TWO_HOSTS") != "1":
        pytest.skip("takes a while; OMMATIDIA_TWO_HOSTS=1 runs it")
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("namespaces need root and iproute2")
    names = f"ommatidia{os.getpid()}a", f"ommatidia{os.getpid()}b"
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
        for name, address in zip(names, (FIRST, SECOND), strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            for link in ("lo", "cable"):
                ip("-n", name, "link", "set", link, "up")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"namespaces are not permitted here: {error.stderr.decode().strip()}")
    try:
        yield names
    finally:
        for name in names:
            ip("netns", "delete", name)


def power_off(host: str) -> None:
    """Kill all that runs in a namespace."""
    there = subprocess.run(["ip", "netns", "pids", host], check=True, capture_output=True, text=True)
    for pid in there.stdout.split():
        os.kill(int(pid), signal.SIGKILL)


def start(host: str, yaml: Path, log: Path) -> subprocess.Popen[bytes]:
    """The same command that is started on every host."""
    words = [word for setting in (*SETTINGS, "experiment=two") for word in ("--set", setting)]
    command = ["ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"]
    command += ["--nproc-per-node", "1", "--max-restarts", "3", "--monitor-interval", "0.2", "--rdzv-backend", "c10d"]
    leads = host.endswith("a")
    command += ["--rdzv-endpoint", f"{FIRST}:29400", "--rdzv-id", "toy", "--local-addr", FIRST if leads else SECOND]
    command += [
        "--rdzv-conf",
        f"is_host={int(leads)},keep_alive_interval=1,keep_alive_max_attempt=3,last_call_timeout=2",
    ]
    command += ["train.py", "--config", str(yaml), *words, "main"]
    settings = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "cable", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    with log.open("ab") as out:
        return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **settings}, stdout=out, stderr=out)


def test_a_host_that_is_cut_off_and_started_again_does_not_change_the_result(
    toy: Callable[..., Config], tmp_path: Path, hosts: tuple[str, str]
) -> None:
    config, yaml = toy(*SETTINGS, "experiment=two"), tmp_path / "toy.yaml"
    last, logs = config.models / "main" / "last.pt", [tmp_path / "first.log", tmp_path / "second.log"]
    running = [start(host, yaml, log) for host, log in zip(hosts, logs, strict=True)]
    try:
        until = time.monotonic() + WAIT
        while not last.is_file() and time.monotonic() < until:
            assert running[0].poll() is None, logs[0].read_text()
            time.sleep(0.01)
        ip("-n", hosts[1], "link", "set", "cable", "down")
        power_off(hosts[1])
        time.sleep(5)
        assert running[0].poll() is None, "the training ended before the cable was cut"
        ip("-n", hosts[1], "link", "set", "cable", "up")
        running[1] = start(hosts[1], yaml, logs[1])
        assert [one.wait(WAIT) for one in running] == [0, 0], [log.read_text()[-3000:] for log in logs]
    finally:
        for host in hosts:
            power_off(host)
    assert "main: going on after epoch" in logs[0].read_text() + logs[1].read_text()
    (alone,) = train_role(toy(*SETTINGS, "experiment=one"), "main")
    two, one_ = (
        pd.read_csv(folder / "training_metrics.csv").drop(columns="seconds") for folder in (last.parent, alone)
    )
    pd.testing.assert_frame_equal(two, one_, rtol=1e-3, atol=1e-4)
    assert load_model(last.parent)[1].training["finished"] is True
