"""The download: what arrives is whole, what does not is a row with a reason, and only that is asked for again."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import draw_photo

from pipeline import files
from pipeline.dataset.sources import download as module
from pipeline.dataset.sources.download import COLUMNS, download, failures, read_ledger
from pipeline.errors import NetworkError
from pipeline.files import write_parquet

from .server import Answer, Server

NONE = pd.DataFrame(columns=COLUMNS)
BLOCKED = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>'
Fetch = Callable[..., pd.DataFrame]


def jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    draw_photo(seed).save(buffer, "JPEG")
    return buffer.getvalue()


WHOSE = ("ana", "CC-BY", "(c) Ana")


def asked_for(n: int) -> pd.DataFrame:
    """n photos of two species, as the query gives them."""
    rows = [
        (i, "Insecta", ("Apis mellifera", "Vanessa: a/b")[i % 2], f"obs{i}", "2020-05-01", *WHOSE, "jpg")
        for i in range(1, n + 1)
    ]
    names = ["photo_id", "group", "species", "observation", "date", "observer", "licence", "attribution", "extension"]
    return pd.DataFrame(rows, columns=names)


def url(number: int) -> str:
    return f"/photos/{number}/medium.jpg"


@pytest.fixture
def host(server: Server) -> Server:
    """A server with six photos."""
    server.pages |= {url(i): Answer(jpeg(i)) for i in range(1, 7)}
    return server


@pytest.fixture
def fetch(host: Server, tmp_path: Path, asking: Any) -> Fetch:
    """Download the first n of them; the ledger is written and read as the stage does it."""

    def run(n: int = 6, size: str = "medium", **policy: Any) -> pd.DataFrame:
        ledger, root = tmp_path / "ledger.parquet", tmp_path / "photos"
        save, known = partial(write_parquet, ledger), read_ledger(ledger)
        made = download(asked_for(n), root, asking(**policy), f"{host.url}/photos", size, known, save)
        save(made)
        host.log.append("--")
        return made

    return run


def there(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_photos_lie_in_the_users_folders_and_the_ledger_says_whose_they_are(fetch: Fetch, tmp_path: Path) -> None:
    ledger = fetch()
    assert ledger["ok"].all()
    assert sorted(ledger["image_path"]) == there(tmp_path / "photos")
    row = ledger.iloc[0].to_dict()
    assert row["image_path"] == "Insecta/Vanessa_ a_b/1.jpg"
    assert (tmp_path / "photos" / row["image_path"]).read_bytes() == jpeg(1)
    keys = ("photo_id", "species", "observation", "date", "observer", "licence", "attribution")
    facts = {key: row[key] for key in keys}
    assert facts == {
        "photo_id": 1, "species": "Vanessa: a/b", "observation": "obs1", "date": "2020-05-01",
        "observer": "ana", "licence": "CC-BY", "attribution": "(c) Ana",
    }  # fmt: skip
    assert row["sha256"] == files.sha256(tmp_path / "photos" / row["image_path"])
    assert row["url"].endswith("/photos/1/medium.jpg")


def test_a_second_call_fetches_nothing(fetch: Fetch, host: Server) -> None:
    first = fetch()
    assert fetch().equals(first)
    assert host.log == [*map(url, range(1, 7)), "--", "--"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            Answer(b"<!DOCTYPE html><html>Sign in", headers={"Content-Type": "image/jpeg"}),
            "gave HTML or XML, no picture",
        ),
        (Answer(BLOCKED), "gave HTML or XML, no picture: '<?xml version"),
        (Answer(b""), "is no image in a format that Pillow knows"),
        (Answer(b"just text"), "is no image in a format that Pillow knows"),
        (Answer(jpeg(3)[:700]), "cannot be decoded"),
        (Answer(b"gone", 404), "is not given: status 404"),
        (Answer(BLOCKED, 403), "is not given: status 403"),
        (Answer(status=302, headers={"Location": url(3)}), "leads in circles"),
        (Answer(status=500), "gave no answer in 6 attempts (last: status 500"),
        (Answer(jpeg(3), cut=100), "gave no answer in 6 attempts (last: the answer is cut"),
    ],
)
def test_what_is_no_photo_is_a_row_with_a_reason_and_alone_is_asked_for_again(
    fetch: Fetch, host: Server, tmp_path: Path, answer: Answer, reason: str
) -> None:
    host.pages[url(3)] = answer
    ledger = fetch().set_index("photo_id")
    assert ledger.index[~ledger["ok"]].tolist() == [3]
    assert reason in ledger["reason"][3]
    assert ledger["sha256"][3] == ""
    assert len(there(tmp_path / "photos")) == 5
    assert sum(failures(ledger).values()) == 1
    host.pages[url(3)] = Answer(jpeg(3))
    assert fetch()["ok"].all()
    assert host.log[host.log.index("--") + 1 :] == [url(3), "--"]
    assert len(there(tmp_path / "photos")) == 6


def test_busy_then_well(fetch: Fetch, host: Server, clock: Any) -> None:
    host.pages[url(2)] = [Answer(status=429, headers={"Retry-After": "7"}), Answer(status=503), Answer(jpeg(2))]
    assert fetch(delay=0.0)["ok"].all()
    assert clock.sleeps == [7, 4]


def test_at_most_one_photo_a_second(fetch: Fetch, clock: Any) -> None:
    fetch()
    assert clock.sleeps == pytest.approx([1] * 5)


def test_a_format_that_is_not_read_is_not_fetched(host: Server, tmp_path: Path, asking: Any) -> None:
    photos = asked_for(3).assign(extension=["gif", "jpg", ""])
    ledger = download(photos, tmp_path, asking(), f"{host.url}/photos", "medium", NONE, lambda ledger: None)
    assert ledger["reason"].tolist() == ["'gif' is no format that is read", "", "'' is no format that is read"]
    assert host.log == [url(2)]


def test_a_server_that_is_gone_ends_the_run_and_what_has_arrived_stays(
    fetch: Fetch, host: Server, tmp_path: Path
) -> None:
    whole = dict(host.pages)
    host.pages |= {url(i): Answer(status=503) for i in range(3, 7)}
    with pytest.raises(NetworkError, match="run the same command later, it goes on where it was"):
        fetch(attempts=2)
    assert host.times() == {url(1): 1, url(2): 1, url(3): 2, url(4): 2, url(5): 2}
    host.pages = dict(whole)
    host.log.clear()
    assert fetch()["ok"].all()
    assert host.log == [*map(url, range(3, 7)), "--"]


@pytest.mark.parametrize("how", ["ledger", "no ledger"])
def test_a_photo_that_changed_on_disk_is_fetched_again(fetch: Fetch, host: Server, tmp_path: Path, how: str) -> None:
    path = tmp_path / "photos" / fetch()["image_path"][3]
    path.write_bytes(jpeg(99) if how == "ledger" else path.read_bytes()[:700])
    if how == "no ledger":
        (tmp_path / "ledger.parquet").unlink()
    assert fetch()["ok"].all()
    assert host.log[7:] == [url(4), "--"]
    assert path.read_bytes() == jpeg(4)


def test_another_size_is_fetched_anew(fetch: Fetch, host: Server, tmp_path: Path) -> None:
    host.pages |= {f"/photos/{i}/large.jpg": Answer(jpeg(50 + i)) for i in (1, 2)}
    medium = fetch(2)
    large = fetch(2, "large")
    assert large["image_path"].equals(medium["image_path"])
    assert (tmp_path / "photos" / large["image_path"][0]).read_bytes() == jpeg(51)


@pytest.mark.parametrize("every", [0.0, 1000.0])
def test_another_size_goes_on_where_it_broke_off(
    fetch: Fetch, host: Server, monkeypatch: pytest.MonkeyPatch, every: float
) -> None:
    monkeypatch.setattr(module, "SAVE_EVERY", every)
    fetch()
    host.pages |= {f"/photos/{i}/large.jpg": Answer(jpeg(50 + i)) for i in range(1, 7)}
    host.pages |= {f"/photos/{i}/large.jpg": Answer(status=500) for i in (4, 5, 6)}
    with pytest.raises(NetworkError):
        fetch(6, "large")
    host.pages |= {f"/photos/{i}/large.jpg": Answer(jpeg(50 + i)) for i in (4, 5, 6)}
    host.log.clear()
    assert fetch(6, "large")["ok"].all()
    assert host.log == [*(f"/photos/{i}/large.jpg" for i in (4, 5, 6)), "--"]


def test_the_old_size_does_not_pass_for_one_that_cannot_be_had(fetch: Fetch, host: Server) -> None:
    fetch(1)
    for _ in range(2):
        assert not fetch(1, "large")["ok"].any()


def test_disk_full_is_an_error_and_leaves_nothing_half(
    fetch: Fetch, host: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, []

    def full(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(fd)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        fetch()
    assert len(there(tmp_path / "photos")) == 3
    assert fetch()["ok"].all()
    assert host.times()[url(1)] == 1
    assert host.times()[url(4)] == 2  # it had arrived but had nowhere to stay


def test_no_permission_is_an_error(fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, *rest: Any, **more: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", denied)  # root may write everywhere, so a read-only folder is no test
    with pytest.raises(PermissionError, match="Permission denied: .*photos/Insecta"):
        fetch()


def test_reasons_are_counted_without_the_addresses() -> None:
    reasons = ["http://a/1 is not given: status 404 Not Found", "http://a/2 is not given: status 404 Not Found", ""]
    ledger = pd.DataFrame({"ok": [False, False, True], "reason": reasons})
    assert failures(ledger) == {"the photo is not given: status 404 Not Found": 2}
