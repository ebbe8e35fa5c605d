"""A server over a toy cascade: in this process, and on a socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient
from toy import COLOURS, cache_colours, write_cascade, write_photo

from pipeline.edge.cascade import Answer, load_cascade
from pipeline.serving.app import application
from pipeline.serving.connection import configured
from pipeline.serving.engine import Engine

from .served import LIMITS


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle: a cache that knows one species, and main."""
    stages = [("cache", cache_colours("Apis mellifera"), 0.5), ("main", COLOURS, 0.0)]
    return write_cascade(tmp_path_factory.mktemp("bundle"), stages)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A photo of each species."""
    folder = tmp_path_factory.mktemp("photos")
    return {species: write_photo(folder / f"{i}.png", colour) for i, (species, colour) in enumerate(COLOURS.items())}


@pytest.fixture
def make(packed: Path) -> Callable[..., tuple[TestClient, Engine]]:
    """A client whose server has these limits, and the server's engine."""

    def client(token: str | None = None, **limits: Any) -> tuple[TestClient, Engine]:
        engine = Engine(load_cascade(packed), replace(LIMITS, **limits))
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return TestClient(application(engine, "toy", token), headers=headers, raise_server_exceptions=False), engine

    return client


@pytest.fixture
def client(make: Callable[..., tuple[TestClient, Engine]]) -> TestClient:
    return make()[0]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """No photo is answered before this is set."""
    opened = threading.Event()

    def classify(self: Any, path: Any, *given: Any, **more: Any) -> Answer:
        assert opened.wait(30)
        return Answer(str(path), species="Apis mellifera", stage="main", decode_ms=400.0)

    monkeypatch.setattr("pipeline.edge.cascade.Cascade.classify", classify)
    return opened


@pytest.fixture
def listening(make: Callable[..., tuple[TestClient, Engine]]) -> Iterator[Callable[..., tuple[int, Engine]]]:
    """Servers on sockets of this machine: port and engine; they are stopped in the end."""
    running = []

    def start(**limits: Any) -> tuple[int, Engine]:
        app, engine = make(**limits)
        server = uvicorn.Server(configured(app.app, engine.limits))  # type: ignore[arg-type]
        thread = threading.Thread(target=server.run)
        server.config.port = 0
        thread.start()
        while not server.started:
            time.sleep(0.01)
        running.append((server, thread))
        return server.servers[0].sockets[0].getsockname()[1], engine

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
