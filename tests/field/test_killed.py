"""Killed at any moment, by the system or the power cord: every photo ends with exactly one row, and the right one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy import COLOURS, write_cascade, write_photo

from pipeline.edge.classify import main

from .device import BUNDLE, ROOT, TIMES, rows_of
from .fake import TOKEN, serving

# Forks itself again and again; each child dies at its own moment: before or after the nth step that leaves a trace.
DRIVER = """
import os, signal, sys, sqlite3
from pathlib import Path
import onnxruntime  # once, before the children
from pipeline.edge import classify, results
from pipeline.field import link, sender, spool
from pipeline.field.remote import remote
sender.FIRST, sender.PATIENCE, spool.SYNCHRONOUS = 0.002, 5.0, "off"  # a kill is no power cut
steps = 0
def counted(owner, name):
    real = getattr(owner, name)
    def step(*given, **more):
        global steps
        steps += 1
        if steps == deadly: os.kill(os.getpid(), signal.SIGKILL)
        done = real(*given, **more)
        steps += 1
        if steps == deadly: os.kill(os.getpid(), signal.SIGKILL)
        return done
    setattr(owner, name, step)
class Torn:
    \"\"\"A row that is written in two parts.\"\"\"
    def __init__(self, file): self.file = file
    def __getattr__(self, name): return getattr(self.file, name)
    def __enter__(self): return self
    def __exit__(self, *given): return self.file.__exit__(*given)
    def write(self, text):
        global steps
        self.file.write(text[:len(text) // 2])
        self.file.flush()
        steps += 1
        if steps == deadly: os.kill(os.getpid(), signal.SIGKILL)
        return self.file.write(text[len(text) // 2:])
real_open = Path.open
Path.open = lambda self, mode="r", *a, **k: (Torn if mode == "a" else lambda f: f)(real_open(self, mode, *a, **k))
for name in ("put", "sent", "decide", "decided", "forget", "next"): counted(spool.Spool, name)
counted(link.Link, "_exchange")
counted(os, "fsync")
bundle, *arguments = sys.argv[1:]
deadly, killed, codes = 1, 0, []
while True:
    if (child := os.fork()) == 0:
        sys.stdout = open(os.devnull, "w")
        os._exit(classify.main(Path(bundle), arguments, remote))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        killed += 1
        deadly += 1 + killed % 7
    else:
        codes.append(os.WEXITSTATUS(status))
        break
print(killed, codes)
"""


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_every_photo_is_answered_exactly_once(tmp_path: Path, kind: str) -> None:
    (tmp_path / "bundle").mkdir()
    packed = write_cascade(tmp_path / "bundle", BUNDLE)
    for i, colour in enumerate(list(COLOURS.values()) * 5):
        write_photo(tmp_path / "photos" / f"{i:02}.png", [part - i // 5 for part in colour])
    out, alone = tmp_path / f"r.{kind}", tmp_path / "alone.jsonl"
    assert main(packed, [str(tmp_path / "photos"), "--out", str(alone)]) == 0
    with serving(packed) as server:
        server.fault = lambda number, path: "cut" if number % 7 == 5 else None
        command = [sys.executable, "-c", DRIVER, str(packed), str(tmp_path / "photos"), "--out", str(out)]
        done = subprocess.run(
            [*command, "--main", server.url], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
            env={**os.environ, "OMMATIDIA_TOKEN": TOKEN, "OMMATIDIA_DEVICE": "pi", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    killed, codes = done.stdout.split(" ", 1)
    assert int(killed) >= 10
    assert json.loads(codes) == [0]
    wanted = rows_of(alone)
    if kind == "csv":
        import csv

        with out.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(wanted) == 25
        assert {row["path"]: row["species"] for row in rows} == {path: row["species"] for path, row in wanted.items()}
    else:
        rows_there = rows_of(out)
        assert {path: {**row, **dict.fromkeys(TIMES)} for path, row in rows_there.items()} == {
            path: {**row, **dict.fromkeys(TIMES)} for path, row in wanted.items()
        }


FULL = """
import resource, signal, sys
from pathlib import Path
from pipeline.edge.classify import main
from pipeline.field import sender
from pipeline.field.remote import remote
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sender.PATIENCE = 1.0
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.exit(main(Path(sys.argv[2]), sys.argv[3:], remote))
"""


@pytest.mark.parametrize("limit", [30_000, 60_000])
def test_a_full_disk(tmp_path: Path, limit: int) -> None:
    """The spool, or the results, cannot grow: an error; with room the same command goes on and loses nothing."""
    (tmp_path / "bundle").mkdir()
    packed = write_cascade(tmp_path / "bundle", BUNDLE)
    for i, colour in enumerate(list(COLOURS.values()) * 6):
        path = write_photo(tmp_path / "photos" / f"{i:02}.png", [part - i // 5 for part in colour])
        with path.open("ab") as file:
            file.write(bytes(3000))
    environment = {**os.environ, "OMMATIDIA_TOKEN": TOKEN, "OMMATIDIA_DEVICE": "pi", "OMP_NUM_THREADS": "1"}
    with serving(packed) as server:
        server.fault = lambda number, path: (500, {}, {})
        codes = []
        for most in (limit, 10**9):
            given = [str(tmp_path / "photos"), "--out", str(tmp_path / "r.jsonl"), "--main", server.url]
            command = [sys.executable, "-c", FULL, str(most), str(packed), *given]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
            codes.append(done.returncode)
            assert "Traceback" not in done.stderr
            if most == limit:
                assert done.stderr.splitlines()[-1].startswith("error: "), done.stderr
                server.fault = lambda number, path: None
    assert codes == [1, 0]
    assert len(rows_of(tmp_path / "r.jsonl")) == 30
