"""The command: what it refuses, and that it starts, answers and ends."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from killing import begun, ctrl_c
from tls import certificate
from toy import COLOURS, write_cascade, write_model

from pipeline.errors import ConfigError, DataError
from pipeline.serving.limits import Limits
from pipeline.serving.run import read_token, serve

from .served import LIMITS, TOKEN

ROOT = Path(__file__).resolve().parents[2]


def test_without_a_token_only_this_machine_may_ask(packed: Path) -> None:
    for host in ("0.0.0.0", "192.168.1.2", "::", "example.org"):
        with pytest.raises(ConfigError, match="without a token only this machine may ask"):
            serve(packed, LIMITS, host=host)


def test_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMMATIDIA_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("OMMATIDIA_TOKEN", TOKEN)
    assert read_token(None) == TOKEN
    file = tmp_path / "token"
    file.write_text(f"{TOKEN[::-1]}\n")
    assert read_token(file) == TOKEN[::-1]
    for wrong in ("", "short", "x" * 15, "a space in its middle", "é" * 20, "a\tb" * 20):
        file.write_text(wrong)
        with pytest.raises(ConfigError, match="openssl rand"):
            read_token(file)
    with pytest.raises(ConfigError, match="the token cannot be read from"):
        read_token(tmp_path / "no")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"queue": 0}, "above 0"),
        ({"wait_ms": -1}, "above 0"),
        ({"photos": 9}, "raise --queue"),
        ({"body_mb": 1}, "fits"),
        ({"body_mb": math.nan}, "above 0 and finite: body_mb is nan"),
        ({"wait_ms": math.nan}, "wait_ms is nan"),
        ({"timeout": math.inf}, "timeout is inf"),
    ],
)
def test_limits_that_make_no_sense(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(LIMITS, **wrong)
    assert Limits().queue == 64


def test_an_unknown_stage(packed: Path) -> None:
    with pytest.raises(DataError, match="the bundle has no stage 'mian'; its stages: cache, main"):
        serve(packed, LIMITS, stages=["mian"])


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_is_a_number_in_range(packed: Path, port: int) -> None:
    with pytest.raises(ConfigError, match=f"--port must lie between 0 and 65535, not {port}"):
        serve(packed, LIMITS, port=port)


def test_a_port_that_is_taken_and_a_host_that_is_not_known(packed: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1, port {port}: .*; give another --host or"):
            serve(packed, LIMITS, port=port)
    with pytest.raises(ConfigError, match=r"cannot listen on no.such.host.invalid, port 8000: .*; give another"):
        serve(packed, LIMITS, host="no.such.host.invalid", token=TOKEN)


def test_threads_are_at_least_1(packed: Path) -> None:
    with pytest.raises(ConfigError, match="--threads must be at least 1, not -3"):
        serve(packed, LIMITS, threads=-3)


def served(place: Path, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]], **given: Any) -> str:
    """What it says once it listens; it ends at once."""
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    serve(place, LIMITS, port=0, **given)
    return lines()[0]


def test_any_exported_model_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    file = write_model(tmp_path / "models" / "toy" / "main_p50" / "model.onnx", COLOURS)
    assert served(file, monkeypatch, lines).endswith(" answers with main_p50 of toy")


def test_a_file_or_a_folder_that_is_named_from_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    folder = tmp_path / "toy" / "bundle"
    folder.mkdir(parents=True)
    monkeypatch.chdir(write_cascade(folder, [("main", COLOURS, 0.0)]))
    assert served(Path("main.onnx"), monkeypatch, lines).endswith(" answers with bundle of toy")
    assert served(Path(), monkeypatch, lines).endswith(" answers with main of bundle")


def test_an_address_of_the_new_kind_stands_in_brackets(
    packed: Path, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert served(packed, monkeypatch, lines, host="::1").startswith("serve     http://[::1]:")


def test_the_extra_is_not_installed(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigError, match=r"pip install 'ommatidia\[serve\]'"):
        serve(packed, LIMITS)


def test_a_certificate_that_cannot_be_used(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "pem").write_text("nothing")
    for name in ("pem", "no"):
        with pytest.raises(ConfigError, match="certificate and key cannot be used"):
            serve(packed, LIMITS, certificate=(tmp_path / name, tmp_path / name))


def test_https_with_a_token_until_sigterm(packed: Path, pictures: dict[str, Path], tmp_path: Path) -> None:
    signed, key = certificate(tmp_path)
    command = [sys.executable, "serve.py", "--bundle", str(packed), "--stages", "main", "--port", "0"]
    command += ["--tls", str(signed), str(key)]
    server = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMMATIDIA_TOKEN": TOKEN}
    )
    try:
        assert server.stderr
        line = server.stderr.readline()
        assert line.endswith(" answers with main of " + packed.name + "\n"), line
        url = line.split()[1]
        assert url.startswith("https://127.0.0.1:")
        headers = {"Content-Type": "image/png", "Authorization": f"Bearer {TOKEN}"}
        request = urllib.request.Request(f"{url}/v1/classify", pictures["Apis mellifera"].read_bytes(), headers)
        with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=signed), timeout=20) as got:
            assert b'"stage":"main"' in got.read()
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
        assert server.stderr.read() == "serve     ended; all that was taken is answered\n"
    finally:
        server.kill()
        server.wait()


def test_ctrl_c_ends_it_whole_and_a_program_is_told_the_address(packed: Path, pictures: dict[str, Path]) -> None:
    server = begun("serve.py", "--bundle", packed, "--port", "0", "--json", "--verbose")
    try:
        assert server.stdout
        told = json.loads(server.stdout.readline())
        assert told == {"address": told["address"], "experiment": packed.name, "stages": ["cache", "main"]}
        photo = pictures["Apis mellifera"].read_bytes()
        request = urllib.request.Request(f"{told['address']}/v1/classify", photo, {"Content-Type": "image/png"})
        with urllib.request.urlopen(request, timeout=20) as got:
            assert b'"stage":"cache"' in got.read()
        code, last, said = ctrl_c(server)
    finally:
        server.kill()
    assert code == 0 and "Traceback" not in said
    assert said.endswith("serve     ended; all that was taken is answered\n")
    assert json.loads(last).items() >= {"exit_code": 0, "error": None}.items()
