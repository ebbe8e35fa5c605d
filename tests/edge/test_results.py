"""Results appended safely: whatever happens, each photo gets one row."""

from __future__ import annotations

import errno
import signal
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import write_photo

from pipeline.edge.cascade import Answer
from pipeline.edge.classify import main
from pipeline.edge.results import results

from .calls import APIS, json_of, process, rows_of


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_the_same_command_again_answers_only_what_is_new(
    packed: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    out = tmp_path / f"r.{kind}"
    assert main(packed, [str(photos), "--out", str(out)]) == 0
    before = out.read_bytes()
    assert main(packed, [str(photos), "--out", str(out)]) == 0
    assert out.read_bytes() == before
    assert capsys.readouterr().out.endswith(f"0 photos, 0 failed, 2 were there before, 0 of them failed: {out}\n")
    write_photo(photos / "c" / "new\nline, and comma.png", APIS)
    for _ in range(2):
        assert main(packed, [str(photos), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(before)
    assert len(rows_of(out) if kind == "csv" else json_of(out)) == 3


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_wherever_the_file_was_cut_off_each_photo_gets_one_row(packed: Path, tmp_path: Path, kind: str) -> None:
    for i in range(3):
        write_photo(tmp_path / "photos" / f"{i} é.png", APIS)
    out, command = tmp_path / f"r.{kind}", [str(tmp_path / "photos"), "--out", str(tmp_path / f"r.{kind}")]
    main(packed, command)
    whole = out.read_bytes()
    for end in [*range(0, len(whole), 61), len(whole) - 1]:
        for tail in (b"", b"\0" * 100):  # zeros: what a power cut leaves where the file had grown already
            out.write_bytes(whole[:end] + tail)
            assert main(packed, command) == 0
            rows: list[Any] = rows_of(out) if kind == "csv" else json_of(out)
            assert [Path(row["path"]).name for row in rows] == ["0 é.png", "1 é.png", "2 é.png"]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "a,b\n1,2", "some text\n", "some text", "[1]\n", '{"my": 1}'])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_file_of_something_else_is_not_touched(
    packed: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, text: str
) -> None:
    out = tmp_path / f"r.{kind}"
    out.write_text(text)
    assert main(packed, [str(photos), "--out", str(out)]) == 1
    assert "holds something else than results" in capsys.readouterr().err
    assert out.read_text() == text


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_second_command_on_the_same_results_is_refused(
    packed: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    out = tmp_path / f"r.{kind}"
    with results(out) as (_, write, _):
        write(Answer(path="first"))
        assert main(packed, [str(photos), "--out", str(out)]) == 1
        assert f"error: another classify.py writes {out}; wait for it, or give another" in capsys.readouterr().err
        write(Answer(path="second"))
    rows: list[Any] = rows_of(out) if kind == "csv" else json_of(out)
    assert [row["path"] for row in rows] == ["first", "second"]
    assert main(packed, [str(photos), "--out", str(out)]) == 0


def test_results_are_written_where_files_cannot_be_locked(
    packed: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def unknown(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    assert main(packed, [str(photos), "--out", str(tmp_path / "r.csv")]) == 0
    assert len(rows_of(tmp_path / "r.csv")) == 2


def test_a_row_of_thousands_of_candidates_is_read_again(tmp_path: Path) -> None:
    many = [(f"Species number {i}", 0.0001) for i in range(10_000)]
    for path in ("a", "b"):
        with results(tmp_path / "r.csv") as (done, write, _):
            write(Answer(path=path, topk=many))
    assert done == {"a"}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_long_file_is_read_row_by_row(tmp_path: Path, kind: str) -> None:
    """What is kept of it are the photos' paths."""
    out, candidates = tmp_path / f"r.{kind}", [("a species " * 20, 0.1)] * 5
    with results(out) as (_, write, _):
        write(Answer(path="0", topk=candidates))
    row = out.read_text().splitlines(keepends=True)[-1]
    with out.open("a") as file:
        for i in range(1, 5000):
            file.write(row.replace("0", str(i), 1) if kind == "csv" else row.replace('"0"', f'"{i}"', 1))
    tracemalloc.start()
    with results(out) as (done, _, told):
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(done), told["failed before"]) == (5000, 0)
    assert peak < out.stat().st_size / 4


@pytest.mark.parametrize("reason", [PermissionError(13, "Permission denied"), OSError(28, "No space left on device")])
def test_a_results_file_that_cannot_be_written(
    packed: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    reason: OSError,
) -> None:  # fmt: skip
    def refuse(*given: Any, **more: Any) -> None:
        raise reason

    monkeypatch.setattr(Path, "open", refuse)
    assert main(packed, [str(photos), "--out", str(tmp_path / "r.csv")]) == 1
    assert capsys.readouterr().err == f"error: {reason}\n"


FULL = """
import resource, signal, sys
from pathlib import Path
from pipeline.edge.cascade import Answer
from pipeline.edge.classify import main
from pipeline.edge.results import results
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
"""


def test_a_full_disk_is_an_error_and_the_rest_follows_when_there_is_room(packed: Path, tmp_path: Path) -> None:
    for i in range(20):
        write_photo(tmp_path / "photos" / f"{i:02}.png", APIS)
    arguments = [str(tmp_path / "photos"), "--out", str(tmp_path / "r.csv")]
    done = process(FULL, str(packed), *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: [Errno 27] File too large")
    assert main(packed, arguments) == 0
    assert len(rows_of(tmp_path / "r.csv")) == len({row["path"] for row in rows_of(tmp_path / "r.csv")}) == 20


KILLED = """
import os, signal, sys
from pathlib import Path
import onnxruntime  # once, before the children
from pipeline.edge import classify, results
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell starts with SIGINT ignored
class Cut:
    \"\"\"Writes byte by byte, and ends the process after so many of them.\"\"\"
    def __init__(self, file): self.file = file
    def __getattr__(self, name): return getattr(self.file, name)
    def __enter__(self): return self
    def __iter__(self): return iter(self.file)
    def __exit__(self, *given): self.file.close()
    def write(self, row):
        global left
        for byte in row:
            if not left:
                os.kill(os.getpid(), getattr(signal, sys.argv[1]))
            left -= 1
            self.file.write(bytes([byte]))
            self.file.flush()
real = Path.open
Path.open = lambda self, mode="r", **more: Cut(real(self, mode, **more)) if mode == "ab+" else real(self, mode, **more)
for left in map(int, sys.argv[2].split()):
    if not (child := os.fork()):
        sys.exit(classify.main(Path(sys.argv[3]), sys.argv[4:]))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_killed_at_any_moment_each_photo_is_answered_exactly_once(packed: Path, tmp_path: Path, how: str) -> None:
    """Killed again and again, at 20 moments, each time after some more bytes of the results."""
    names = [f"{i:02}, é.png" for i in range(24)]
    for name in names:
        write_photo(tmp_path / "photos" / name, APIS)
    (tmp_path / "photos" / "99.jpg").write_text("not a picture")
    out, moments = tmp_path / "r.csv", np.random.default_rng(0).integers(0, 300, 20 if how == "SIGKILL" else 3)
    arguments = [str(packed), str(tmp_path / "photos"), "--threads", "1", "--out", str(out)]
    done = process(KILLED, how, " ".join(map(str, moments)), *arguments)
    wanted = -signal.SIGKILL if how == "SIGKILL" else 130
    assert [int(code) for code in done.stdout.split()] == [wanted] * len(moments)
    assert "Traceback" not in done.stderr
    assert main(packed, arguments[1:]) == 3
    assert [Path(row["path"]).name for row in rows_of(out)] == [*names, "99.jpg"]
