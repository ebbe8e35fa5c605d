"""Who is refused: tokens, addresses, label spaces, spools, and wrong usage."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from tls import certificate
from toy import COLOURS, write_cascade

from pipeline.edge.classify import main
from pipeline.field.link import Link
from pipeline.field.remote import remote

from .device import BUNDLE, Run, rows_of, same
from .fake import TOKEN, Fake, serving


def test_a_wrong_token(
    run: Run, server: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMMATIDIA_TOKEN", "wrong")
    assert run(server.url) == 1
    assert "answers 401: the token is missing or wrong; mend it: what waits is kept" in capsys.readouterr().err
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.setenv("OMMATIDIA_TOKEN_FILE", str(tmp_path / "token"))
    assert run(server.url) == 0


def test_a_token_that_is_taken_away_midway(
    run: Run, server: Fake, alone: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.fault = lambda number, path: (401, {"error": "no"}, {}) if number > 4 else None
    assert run(server.url) == 1
    assert "answers 401: no; mend it: what waits is kept" in capsys.readouterr().err
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
    "url", ["http://192.168.1.2:8000", "http://main.example", "ftp://127.0.0.1", "main.example:80"]
)
def test_photos_and_token_go_nowhere_unprotected(run: Run, capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert run(url) == 1
    assert "--main must be https://... (http:// only for this machine)" in capsys.readouterr().err


def test_a_password_in_the_address_is_refused_and_not_told(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("https://me:secret@main.example") == 1
    assert "takes no user and password; the server's token goes into $OMMATIDIA_TOKEN" in (
        told := capsys.readouterr().err
    )
    assert "secret" not in told


@pytest.mark.parametrize("url", ["https://me:secret@main:eight", "https://me:secret@.main.example"])
def test_a_password_is_not_told_where_the_address_is_none_either(
    run: Run, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    assert run(url) == 1
    assert "secret" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    [
        "https://main:eight", "https://[::1", "https://main:99999", "https://.example.org", "https://main..example.org",
        f"https://{'x' * 64}.example.org", "https://my main.example.org", "https://main\x1b.example.org",
        "https://example.org/é", "https://example.org:443/a b", "https://example.org/\x7f", "https://example.org/\udce9",
    ],
)  # fmt: skip
def test_addresses_that_are_none(run: Run, capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert run(url) == 1
    assert "is no address: " in capsys.readouterr().err


@pytest.mark.parametrize("url", ["https://müller.example/a/%C3%A9/", "https://[::1]:8000", "https://main.example.:443"])
def test_addresses_that_are_good(url: str) -> None:
    assert Link(url, "", {}).url.startswith("https://")


def test_https_is_verified(
    run: Run,
    server: Fake,
    alone: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A certificate that nobody vouches for gets no photo; the same one is taken once the system trusts it."""
    signed, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(signed, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = server.url.replace("http", "https")
    assert run(url) == 3
    assert "certificate verify failed" in capsys.readouterr().err
    assert run(url.replace("127.0.0.1", "localhost")) == 3
    assert server.requests == 0
    monkeypatch.setenv("SSL_CERT_FILE", str(signed))
    assert run(url.replace("127.0.0.1", "localhost")) == 3  # trusted, but made out to another name
    assert server.requests == 0
    assert run(url) == 0
    assert same(rows_of(tmp_path / "r.jsonl"), alone)


@pytest.mark.parametrize(
    "given",
    [
        "--main https://x",  # without --out
        "--out r.csv --main=",
        *(f"--out r.csv --main https://x --budget {budget}" for budget in ("nan", "inf", "3.9", "-1")),
    ],
)
def test_wrong_usage(packed: Path, photos: Path, capsys: pytest.CaptureFixture[str], given: str) -> None:
    with pytest.raises(SystemExit) as error:
        main(packed, [str(photos), *given.split()], remote)
    assert error.value.code == 2
    assert "--main needs an address, --out (" in (told := capsys.readouterr().err)
    assert "a --budget of at least 4 (MB)" in told
    assert not Path("r.csv").exists()


def test_a_bundle_without_caches(
    packed: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "main").mkdir()
    only = write_cascade(tmp_path / "main", BUNDLE[1:])
    assert main(only, [str(photos), "--out", str(tmp_path / "r.csv"), "--main", "https://x"], remote) == 1
    assert "has no cache that could answer" in capsys.readouterr().err
