"""`classify.py --main`: what the caches do not answer is answered by main, whatever happens on the device."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from toy import COLOURS, write_photo

from pipeline.edge import sources
from pipeline.edge.classify import main
from pipeline.field import account, sender
from pipeline.field.remote import remote

from .device import ROOT, Run, rows_of, same
from .fake import TOKEN, Fake, serving


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
        f"main: {sent} of 20 photos {rate}: {sent} answered, 0 failed, 0 wait of {sent} that were kept; 0.00 MB sent in {sent}"
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
    assert (
        f"main: 0 of 20 photos (communication rate 0.0%): 0 answered, 0 failed, {20 - len(rows)} wait of " in told.out
    )
    assert "0.00 MB sent in 0 requests" in told.out
    assert "Connection refused; photos are kept until it answers" in told.err
    assert told.err.count("kept until") == 2  # when it starts, when it sends: not at every try
    with serving(packed, gone.server_address[1]) as back:
        assert run(back.url) == 0
    assert same(rows_of(tmp_path / "r.jsonl"), alone)


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
    assert "another classify.py writes" in capsys.readouterr().err
    go_on.set()
    thread.join()
    assert len(rows_of(tmp_path / "r.jsonl")) == 20


def test_what_waits_is_sent_though_the_photos_are_gone(
    run: Run, alone: Any, packed: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(packed) as gone:
        pass
    assert run(gone.url) == 3
    for path in photos.iterdir():
        path.unlink()
    with serving(packed, gone.server_address[1]) as back:
        assert run(back.url) == 0
    assert same(rows_of(tmp_path / "r.jsonl"), alone)


def test_a_watched_folder_that_is_empty_sends_what_waits(
    run: Run, alone: Any, packed: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(packed) as gone:
        pass
    assert run(gone.url) == 3
    for path in photos.iterdir():
        path.unlink()

    def sleep(seconds: float) -> None:  # between two looks at the folder
        if len(rows_of(tmp_path / "r.jsonl")) == 20:
            raise KeyboardInterrupt
        threading.Event().wait(0.01)

    monkeypatch.setattr(sources.time, "sleep", sleep)
    with serving(packed, gone.server_address[1]) as back:
        assert run(back.url, "--watch") == 130
    assert same(rows_of(tmp_path / "r.jsonl"), alone)


def test_failed_rows_are_told_by_the_next_run_too(run: Run, server: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    server.fault = lambda number, path: (413, {}, {}) if number == 2 else None
    assert run(server.url) == 3
    assert run(server.url) == 3
    assert "0 photos, 0 failed, 20 were there before, 1 of them failed: " in capsys.readouterr().out


def test_the_account_is_there_while_photos_flow(
    run: Run, server: Fake, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "r.jsonl.main.json"
    monkeypatch.setattr(account, "EVERY", 0.0)
    seen: list[dict[str, Any]] = []
    real = server.main.classify

    def classify(*given: Any) -> Any:
        seen.append(json.loads(file.read_text(encoding="utf-8")))
        return real(*given)

    server.main.classify = classify  # type: ignore[method-assign]
    server.fault = lambda number, path: (413, {}, {}) if number == 2 else None
    assert run(server.url) == 3
    asked = server.requests - 1
    assert [one["requests"] for one in seen] == list(range(1, asked))
    sizes = sum((photos / Path(row["path"]).name).stat().st_size for row in rows_of(tmp_path / "r.jsonl").values()
                if row["stage"] == "main" or row["status"] == "failed")  # fmt: skip
    assert json.loads(file.read_text(encoding="utf-8")) == {
        "format_version": 1, "photos": 20, "communication_rate": asked / 20, "kept": asked, "reached": asked,
        "answered": asked - 1, "failed": 1, "waiting": 0, "requests": asked, "sent_bytes": sizes,
    }  # fmt: skip
    assert not list(tmp_path.glob(".*"))


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
    assert "main: 0 of 20 photos (communication rate 0.0%): 0 answered" in told  # kept is not sent
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
