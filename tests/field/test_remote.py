"""`classify.py --main`: what the caches do not answer is answered by main, whatever happens on the way."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toy import COLOURS, cache_colours, write_cascade, write_photo

from pipeline.edge.classify import main
from pipeline.field import sender
from pipeline.field.remote import remote

from .fake import TOKEN, Fake, serving

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = [("cache", cache_colours("Apis mellifera"), 0.5), ("main", COLOURS, 0.0)]
TIMES = ("decode_ms", "preprocess_ms", "infer_ms")


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cascade(tmp_path_factory.mktemp("bundle"), BUNDLE)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """4 photos of each species; the cache answers those of two."""
    for i, colour in enumerate(list(COLOURS.values()) * 4):
        write_photo(tmp_path / "photos" / f"{i:02}.png", [part - i // 5 for part in colour], (40 + i, 40))
    return tmp_path / "photos"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMMATIDIA_TOKEN", TOKEN)
    monkeypatch.setenv("OMMATIDIA_DEVICE", "pi")
    monkeypatch.setattr(sender, "FIRST", 0.002)
    monkeypatch.setattr(sender, "PATIENCE", 0.5)


@pytest.fixture
def server(packed: Path) -> Iterator[Fake]:
    with serving(packed) as running:
        yield running


Run = Callable[..., int]


@pytest.fixture
def run(packed: Path, photos: Path, tmp_path: Path) -> Run:
    """The command on the photos, with r.jsonl as its results."""

    def call(url: str, *more: str, folder: Path = packed) -> int:
        return main(folder, [str(photos), "--out", str(tmp_path / "r.jsonl"), "--main", url, *more], remote)

    return call


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    """Rows by path; each path has one."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len({row["path"] for row in rows}) == len(rows)
    return {row["path"]: row for row in rows}


@pytest.fixture
def alone(packed: Path, photos: Path, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """What the whole bundle answers without any network."""
    assert main(packed, [str(photos), "--out", str(tmp_path / "alone.jsonl")]) == 0
    return rows_of(tmp_path / "alone.jsonl")


def same(rows: dict[str, dict[str, Any]], wanted: dict[str, dict[str, Any]]) -> bool:
    """But for times, which tell of the same stages."""
    for row in wanted.values():
        assert set(rows[row["path"]]["infer_ms"]) == set(row["infer_ms"])
    return {path: {**row, **dict.fromkeys(TIMES)} for path, row in rows.items()} == {
        path: {**row, **dict.fromkeys(TIMES)} for path, row in wanted.items()
    }


# as it should be ----------------------------------------------------------------------------------------------------


def test_the_answers_are_those_of_the_whole_bundle(
    run: Run, server: Fake, alone: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(server.url) == 0
    rows = rows_of(tmp_path / "r.jsonl")
    assert same(rows, alone)
    sent = sum(row["stage"] == "main" for row in rows.values())
    assert 0 < sent < 20
    assert server.asked.total() == len(server.asked) == sent
    told = capsys.readouterr().out.splitlines()
    rate = f"(communication rate {sent / 20:.1%})"
    assert told[0].startswith(
        f"main: {sent} of 20 photos {rate}: {sent} answered, 0 failed, 0 wait; 0.00 MB sent in {sent}"
    )
    assert told[1] == f"20 photos, 0 failed: {tmp_path / 'r.jsonl'}"
    before = (tmp_path / "r.jsonl").read_bytes()
    assert run(server.url) == 0
    assert (tmp_path / "r.jsonl").read_bytes() == before
    assert server.asked.total() == sent


def test_the_real_server_answers_so(
    run: Run, packed: Path, alone: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "serve.py", "--bundle", str(packed), "--stages", "main", "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        assert run(process.stderr.readline().split()[1]) == 0
    finally:
        process.terminate()
        assert process.wait(20) == 0
    assert same(rows_of(tmp_path / "r.jsonl"), alone)


def test_caches_answer_while_nobody_else_does(
    run: Run, alone: Any, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(packed) as gone:
        pass
    assert run(gone.url) == 3
    rows = rows_of(tmp_path / "r.jsonl")
    assert set(rows) == {path for path, row in alone.items() if row["stage"] == "cache"}
    told = capsys.readouterr()
    assert f"{20 - len(rows)} wait; 0.00 MB sent in 0 requests" in told.out
    assert "Connection refused; photos are kept until it answers" in told.err
    assert told.err.count("kept until") == 2  # when it starts, when it sends: not at every try
    with serving(packed, gone.server_address[1]) as back:
        assert run(back.url) == 0
    assert same(rows_of(tmp_path / "r.jsonl"), alone)


# what servers do ----------------------------------------------------------------------------------------------------

FAULTS = {
    "cut": "cut",
    "full": (429, {"error": "the queue is full"}, {"Retry-After": "0"}),
    "broken": (500, {"error": "oh"}, {}),
    "starting": (503, b"Service Unavailable", {}),
    "a login page": (200, b"<html>please log in</html>", {}),
    "another photo": (200, {"label_space": "0", "photos": [{"sha256": "0", "topk": []}]}, {}),
    "a list": (200, [1], {}),
    "an empty answer": (200, {}, {}),
    "a dreadful type": (200, {"label_space": 1, "labels": 2, "experiment": 3, "photos": 4}, {}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_second_answer_is_none(run: Run, server: Fake, alone: Any, tmp_path: Path, fault: str) -> None:
    server.fault = lambda number, path: FAULTS[fault] if number % 2 else None
    assert run(server.url) == 0
    assert same(rows_of(tmp_path / "r.jsonl"), alone)


def test_answers_that_are_lost_on_the_way_are_asked_for_again(
    run: Run, server: Fake, alone: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.fault = lambda number, path: (500, {"error": "oh"}, {}) if number % 3 == 0 else None
    assert run(server.url) == 0
    assert same(rows_of(tmp_path / "r.jsonl"), alone)
    requests = int(capsys.readouterr().out.split(" MB sent in ")[1].split()[0])
    assert requests == server.requests - 1  # but for the greeting: what was sent in vain is counted


def test_a_server_says_when_to_come_back(run: Run, server: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    real = threading.Event.wait

    def wait(self: threading.Event, timeout: float | None = None) -> bool:
        if timeout and timeout > 5:
            waited.append(timeout)
            timeout = 0.001
        return real(self, timeout)

    monkeypatch.setattr(threading.Event, "wait", wait)
    server.fault = lambda number, path: (
        (429, {}, {"Retry-After": "99999" if number == 3 else "7"}) if number in (3, 5) else None
    )
    assert run(server.url) == 0
    assert waited == [3600.0, 7.0]


def test_one_bad_photo_does_not_hold_up_the_others(run: Run, server: Fake, alone: Any, tmp_path: Path) -> None:
    first: list[str] = []

    real = server.main.classify

    def classify(path: Any, topk: int, data: bytes) -> Any:
        first.append(data.hex()) if not first else None
        if data.hex() == first[0]:
            raise RuntimeError("a photo that breaks the server")
        return real(path, topk, data)

    server.main.classify = classify  # type: ignore[method-assign]
    assert run(server.url) == 3
    assert len(rows_of(tmp_path / "r.jsonl")) == 19


def test_what_the_server_will_never_answer_is_a_row(run: Run, server: Fake, alone: Any, tmp_path: Path) -> None:
    server.fault = lambda number, path: (413, {"error": "the body is larger"}, {}) if number == 2 else None
    assert run(server.url) == 3
    [failed] = [row for row in rows_of(tmp_path / "r.jsonl").values() if row["status"] == "failed"]
    assert failed["failures"] == [f"not answered by main: {server.url} answers 413: the body is larger"]
    assert (failed["species"], failed["stage"]) == ("", "cache")


# who is refused -----------------------------------------------------------------------------------------------------


def test_a_wrong_token(
    run: Run, server: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMMATIDIA_TOKEN", "wrong")
    assert run(server.url) == 1
    assert "answers 401: the token is missing or wrong; mend it, then start again" in capsys.readouterr().err
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.setenv("OMMATIDIA_TOKEN_FILE", str(tmp_path / "token"))
    assert run(server.url) == 0


def test_a_token_that_is_taken_away_midway(
    run: Run, server: Fake, alone: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.fault = lambda number, path: (401, {"error": "no"}, {}) if number > 4 else None
    assert run(server.url) == 1
    assert "answers 401: no; mend it, then start again: what waits is kept" in capsys.readouterr().err
    rows = rows_of(tmp_path / "r.jsonl")
    assert {path for path, row in alone.items() if row["stage"] == "cache"} < set(rows) < set(alone)
    server.fault = lambda number, path: None
    assert run(server.url) == 0
    assert same(rows_of(tmp_path / "r.jsonl"), alone)


def test_a_server_with_another_label_space_is_refused_by_name(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = {**COLOURS, "Episyrphus balteatus": (1, 2, 3)}
    with serving(write_cascade(tmp_path, [("main", foreign, 0.0)])) as server:
        assert run(server.url) == 1
    assert "the label space of toy has " in (told := capsys.readouterr().err)
    assert "ask a server of the same experiment" in told
    assert rows_of(tmp_path / "r.jsonl") == {}


def test_a_bundle_of_caches_alone(
    run: Run, server: Fake, alone: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "caches").mkdir()
    assert run(server.url, folder=write_cascade(tmp_path / "caches", BUNDLE[:1])) == 0
    assert same(rows_of(tmp_path / "r.jsonl"), alone)
    (tmp_path / "foreign").mkdir()
    foreign = write_cascade(tmp_path / "foreign", [("cache", {"Bombus": (1, 2, 3), "Other": (0, 0, 0)}, 0.5)])
    (tmp_path / "r.jsonl.spool").unlink()
    assert run(server.url, folder=foreign) == 1
    assert "knows no 'Bombus'" in capsys.readouterr().err


def test_a_spool_of_another_bundle(run: Run, server: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server.url) == 0
    (tmp_path / "other").mkdir()
    assert run(server.url, folder=write_cascade(tmp_path / "other", BUNDLE, sharpness=5.0)) == 1
    assert "r.jsonl.spool holds photos of bundle " in (told := capsys.readouterr().err)
    assert "name another --out, or send them with what they were taken with" in told


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"x" * 5000])
def test_a_spool_that_is_none(
    run: Run, server: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "r.jsonl.spool").write_bytes(content)
    assert run(server.url) == 1
    assert "cannot be used: " in capsys.readouterr().err
    assert (tmp_path / "r.jsonl.spool").read_bytes() == content


@pytest.mark.parametrize(
    "url", ["http://192.168.1.2:8000", "http://main.example", "ftp://127.0.0.1", "main.example:80", ""]
)
def test_photos_and_token_go_nowhere_unprotected(run: Run, capsys: pytest.CaptureFixture[str], url: str) -> None:
    if url:
        assert run(url) == 1
        assert "--main must be https://... (http:// only for this machine)" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["https://main:eight", "https://[::1", "https://main:99999"])
def test_addresses_that_are_none(run: Run, capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert run(url) == 1
    assert "is no address: " in capsys.readouterr().err


def test_https_is_verified(run: Run, server: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server.url.replace("http", "https")) == 3
    assert "SSL" in capsys.readouterr().err
    assert server.asked.total() == 0


def test_wrong_usage(packed: Path, photos: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as error:
        main(packed, [str(photos), "--main", "https://x"], remote)
    assert error.value.code == 2
    assert "--main needs --out" in capsys.readouterr().err
    (tmp_path / "main").mkdir()
    only = write_cascade(tmp_path / "main", BUNDLE[1:])
    assert main(only, [str(photos), "--out", str(tmp_path / "r.csv"), "--main", "https://x"], remote) == 1
    assert "has no cache that could answer" in capsys.readouterr().err


# what devices do ----------------------------------------------------------------------------------------------------


def test_two_devices_of_the_same_name(packed: Path, server: Fake, tmp_path: Path) -> None:
    """Same name, same file names, other photos: each gets the answers to its own."""
    codes: list[int] = []
    for device, colours in (("one", list(COLOURS.values())), ("two", list(COLOURS.values())[::-1])):
        for i, colour in enumerate(colours):
            write_photo(tmp_path / device / "photos" / f"{i}.png", colour)

    def go(device: str) -> None:
        given = [str(tmp_path / device / "photos"), "--out", str(tmp_path / device / "r.jsonl"), "--main", server.url]
        codes.append(main(packed, given, remote))

    threads = [threading.Thread(target=go, args=(device,)) for device in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0, 0]
    one, two = (
        [row["species"] for _, row in sorted(rows_of(tmp_path / d / "r.jsonl").items())] for d in ("one", "two")
    )
    assert one == two[::-1]
    assert len(set(one)) > 3


def test_two_commands_on_the_same_results(
    run: Run, packed: Path, photos: Path, server: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def hold(number: int, path: str) -> None:
        entered.set()
        assert go_on.wait(20)

    server.fault = hold
    thread = threading.Thread(target=run, args=(server.url,))
    thread.start()
    assert entered.wait(20)
    assert run(server.url) == 1
    assert "cannot be used: another classify.py uses it" in capsys.readouterr().err
    go_on.set()
    thread.join()
    assert len(rows_of(tmp_path / "r.jsonl")) == 20


def test_photos_that_are_dropped_are_rows(
    run: Run, packed: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in photos.iterdir():
        with path.open("ab") as file:
            file.write(bytes(600_000))  # behind the end of the picture
    with serving(packed) as gone:
        pass
    assert run(gone.url, "--budget", "4", "--drop", "oldest") == 3
    rows = rows_of(tmp_path / "r.jsonl")
    gone_rows = [row for row in rows.values() if row["status"] == "failed"]
    assert all(row["failures"] == ["not answered by main: the storage budget was used up"] for row in gone_rows)
    told = capsys.readouterr().out
    assert f"{len(gone_rows)} failed, 4 wait" in told
    assert len(rows) + 4 == 20


def test_a_photo_that_vanishes_before_it_is_kept(
    run: Run, server: Fake, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sender.Sender.take

    def take(self: Any, answer: Any, key: str) -> None:
        if answer.species == "unknown" and (photos / "19.png").exists():
            Path(answer.path).rename(photos / "gone")
            monkeypatch.setattr(sender.Sender, "take", real)
        real(self, answer, key)

    monkeypatch.setattr(sender.Sender, "take", take)
    assert run(server.url) == 3
    [failed] = [row for row in rows_of(tmp_path / "r.jsonl").values() if row["status"] == "failed"]
    assert failed["failures"] == ["not answered by main: it could not be kept: No such file or directory"]


def test_a_clock_that_jumps(
    run: Run, server: Fake, alone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, jumps = time.time, iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: real() + (-1) ** next(jumps) * 3e8)
    server.fault = lambda number, path: FAULTS["broken"] if number % 2 else None
    assert run(server.url) == 0
    assert same(rows_of(tmp_path / "r.jsonl"), alone)


def test_interrupted(
    run: Run,
    server: Fake,
    alone: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real, left = sender.Sender.take, iter(range(12))

    def take(self: Any, answer: Any, key: str) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        real(self, answer, key)

    monkeypatch.setattr(sender.Sender, "take", take)
    assert run(server.url) == 130
    assert "main: " in capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.setenv("OMMATIDIA_TOKEN", TOKEN)
    monkeypatch.setenv("OMMATIDIA_DEVICE", "pi")
    assert run(server.url) == 0
    assert same(rows_of(tmp_path / "r.jsonl"), alone)
