"""What servers and networks do: the device asks again, as often as it may."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.field import link, sender

from .device import Run, rows_of, same
from .fake import TOKEN, Fake

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


@pytest.mark.parametrize("enough", [3, 50])
def test_one_bad_photo_does_not_hold_up_the_others(
    run: Run, server: Fake, alone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enough: int
) -> None:
    """It is sent a few times, then it is a row; with more patience than this run has, it waits."""
    monkeypatch.setattr(sender, "MOST", enough)
    server.poison = Path(next(path for path, row in alone.items() if row["stage"] == "main")).read_bytes()
    assert run(server.url) == 3
    rows = rows_of(tmp_path / "r.jsonl")
    gone = [row["failures"] for row in rows.values() if row["status"] == "failed"]
    assert len(rows) - len(gone) == 19
    assert gone == (
        []
        if enough == 50
        else [[f"not answered by main: main failed at it 3 times: {server.url} answers 500: the network failed"]]
    )


@pytest.mark.parametrize("fault", ["full", "starting", "cut", "a login page"])
def test_no_photo_is_given_up_for_what_is_not_its_fault(
    run: Run, server: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(sender, "MOST", 1)
    monkeypatch.setattr(sender, "PATIENCE", 0.3)
    server.fault = lambda number, path: FAULTS[fault] if path.startswith("/v1/classify") else None
    assert run(server.url) == 3
    assert all(row["status"] == "ok" for row in rows_of(tmp_path / "r.jsonl").values())


def test_a_slow_network_has_time_for_a_large_photo(
    run: Run, server: Fake, alone: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time runs out when nothing moves, not when the whole photo takes longer."""
    kept = next(path for path, row in alone.items() if row["stage"] == "main")
    for path in photos.iterdir():
        if str(path) != kept:
            path.unlink()
    with Path(kept).open("ab") as file:
        file.write(bytes(20_000_000))  # more than a system holds between the two
    monkeypatch.setattr(link, "TIMEOUT", 1.0)
    monkeypatch.setattr(sender, "PATIENCE", 5.0)
    server.pace = 0.1
    assert run(server.url) == 0


def test_what_the_server_will_never_answer_is_a_row(run: Run, server: Fake, alone: Any, tmp_path: Path) -> None:
    server.fault = lambda number, path: (413, {"error": "the body is larger"}, {}) if number == 2 else None
    assert run(server.url) == 3
    [failed] = [row for row in rows_of(tmp_path / "r.jsonl").values() if row["status"] == "failed"]
    assert failed["failures"] == [f"not answered by main: {server.url} answers 413: the body is larger"]
    assert (failed["species"], failed["stage"]) == ("", "cache")


def test_a_refusal_that_ends_is_forgotten(
    run: Run,
    server: Fake,
    alone: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A proxy that knows no such address while main is started anew: the device asks again by itself."""
    monkeypatch.setattr(sender, "LONGEST", 0.01)
    refused = threading.Event()

    def fault(number: int, path: str) -> Any:
        if 3 <= number < 6:
            refused.set()
            return 404, {"error": "no such place"}, {}
        return None

    real = sender.Sender.drain

    def drain(self: Any) -> None:  # the last photo comes once main is back
        assert refused.wait(20)
        while self._error or self.spool.waiting():
            time.sleep(0.005)
        real(self)

    server.fault = fault
    monkeypatch.setattr(sender.Sender, "drain", drain)
    assert run(server.url) == 0
    assert capsys.readouterr().err.count("answers 404: no such place; mend it: what waits is kept") == 1
    assert same(rows_of(tmp_path / "r.jsonl"), alone)


def test_what_ends_the_sending_is_told_at_once(
    run: Run, server: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def decide(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sender.Spool, "decide", decide)
    assert run(server.url) == 1
    assert "error: [Errno 28] No space left on device; nothing is sent any more" in capsys.readouterr().err


def test_bytes_that_went_into_a_closed_connection_are_counted(server: Fake, packed: Path) -> None:
    photo = next((packed).glob("*.onnx")).read_bytes()
    one = link.Link(server.url, TOKEN, json.loads((packed / "cascade.json").read_text(encoding="utf-8")))
    one.greet()
    server.fault = lambda number, path: "cut" if number == 2 else None
    told = one.classify(photo, 1, "x")
    assert told["status"] == "failed"  # it is no photo
    assert one.sent == 2 * len(photo)
