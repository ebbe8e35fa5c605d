"""Where the page is served, and what is said where it cannot be."""

from __future__ import annotations

import builtins
import json
import shutil
import socket
import urllib.request
from typing import Any

import pytest
from killing import begun, ctrl_c
from toy import Experiment

pytest.importorskip("streamlit")
from streamlit.web import cli

from pipeline.config import Config
from pipeline.edge.errors import BundleError
from pipeline.errors import ConfigError, ModelError
from pipeline.page.start import PAGE, settings, start


@pytest.fixture
def config(experiment: Experiment) -> Config:
    return experiment.config()


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_it_listens_as_told_and_hands_the_configuration_on(
    config: Config, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []
    monkeypatch.setattr(cli, "main", lambda words, standalone_mode: called.append(words))
    start(config, "127.0.0.1", port)
    [words] = called
    assert words[0] == "run" and words[-3:-1] == [str(PAGE), "--"]
    assert Config.model_validate_json(words[-1]) == config
    assert {"--server.address=127.0.0.1", f"--server.port={port}", "--browser.gatherUsageStats=False"} <= set(words)


def test_on_this_machine_alone_requests_must_name_it() -> None:
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        allowed = [value for name, value in settings(host, 8501) if name == "server.allowedHosts"]
        assert sorted(allowed) == sorted({"127.0.0.1", "localhost", "::1", host})
    assert not [name for name, _ in settings("0.0.0.0", 8501) if name == "server.allowedHosts"]


def test_without_a_bundle_it_says_what_to_run(config: Config, port: int) -> None:
    (config.output / "bundle" / "main.onnx").unlink()
    with pytest.raises(BundleError, match="copy the bundle again"):
        start(config, "127.0.0.1", port)
    shutil.rmtree(config.output / "bundle")
    with pytest.raises(ModelError, match="run deploy.py with the same --config first"):
        start(config, "127.0.0.1", port)


def test_a_port_that_is_taken_is_one_sentence(config: Config) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(
            ConfigError,
            match=r"cannot listen on 127.0.0.1, port \d+: Address already in use; give another --host or --port",
        ):
            start(config, "127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("wrong", [0, -1, 70000])
def test_a_port_is_a_number_in_range(wrong: int, config: Config) -> None:
    with pytest.raises(ConfigError, match="--port must lie between 1 and 65535"):
        start(config, "127.0.0.1", wrong)


def test_a_host_that_is_not_known_is_one_sentence(config: Config, port: int) -> None:
    with pytest.raises(ConfigError, match="cannot listen on no.such.host.invalid"):
        start(config, "no.such.host.invalid", port)


def test_without_streamlit_it_names_the_extra(config: Config, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    really = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.startswith("streamlit"):
            raise ModuleNotFoundError(f"No module named {name!r}", name="streamlit")
        return really(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"the page needs the package streamlit: pip install 'ommatidia\[app\]'"):
        start(config, "127.0.0.1", port)


def test_ctrl_c_ends_it_and_a_program_is_told_the_address_once_the_page_is_there(packed: Experiment, port: int) -> None:
    server = begun("app.py", "--config", packed.yaml, "--port", str(port), "--json")
    try:
        assert server.stdout
        address = json.loads(server.stdout.readline())["address"]
        assert address == f"http://127.0.0.1:{port}"
        assert urllib.request.urlopen(f"{address}/_stcore/health", timeout=60).status == 200
        code, last, said = ctrl_c(server)
    finally:
        server.kill()
    assert code == 0 and "Traceback" not in said
    assert f"page      {address} (Ctrl-C stops it)\n" in said
    assert said.endswith("page      ended; the same command serves it again\n")
    assert json.loads(last).items() >= {"exit_code": 0, "error": None}.items()
