"""What servers and networks do: the device asks again, as often as it may."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from .device import Run, rows_of, same
from .fake import Fake

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
