"""A server that is deployed anew, with other species, while a device asks it: the real application."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from toy import COLOURS, write_cascade

from pipeline.edge.cascade import load_cascade
from pipeline.field import sender
from pipeline.serving.app import application
from pipeline.serving.engine import Engine
from pipeline.serving.limits import Limits

from .device import BUNDLE, Run, rows_of
from .fake import TOKEN

MORE = {**COLOURS, "Episyrphus balteatus": (1, 2, 3)}
FEWER = {species: colour for species, colour in COLOURS.items() if species != "Apis mellifera"}  # which the cache knows


class Deployed:
    """An address behind which one server takes the place of another after so many photos."""

    def __init__(self, servers: list[Any], photos: int) -> None:
        self.servers, self.photos, self.asked = servers, photos, 0
        self.server = uvicorn.Server(
            uvicorn.Config(self.answer, port=0, interface="asgi3", lifespan="off", log_config=None)
        )
        self.thread = threading.Thread(target=self.server.run)

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += scope["path"] == "/v1/classify"
        await self.servers[self.asked > self.photos](scope, receive, send)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"


@pytest.fixture
def deployed(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Deployed]:
    """A server of the toy's species, then after 3 photos one of those that the test names."""
    servers = []
    for name, colours in (("before", COLOURS), ("after", request.param)):
        (tmp_path / name).mkdir()
        cascade = load_cascade(write_cascade(tmp_path / name, [("main", colours, 0.0)]))
        servers.append(application(Engine(cascade, Limits(batch=1)), "toy", TOKEN))
    running = Deployed(servers, photos=3)
    running.thread.start()
    while not running.server.started:
        time.sleep(0.01)
    yield running
    running.server.should_exit = True
    running.thread.join(20)


@pytest.fixture
def caches(tmp_path: Path) -> Path:
    """The bundle of a device that has no main."""
    (tmp_path / "caches").mkdir()
    return write_cascade(tmp_path / "caches", BUNDLE[:1])


@pytest.mark.parametrize("deployed", [MORE], indirect=True)
def test_more_species_go_on(
    run: Run, deployed: Deployed, caches: Path, alone: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(deployed.url, folder=caches) == 0
    rows = rows_of(tmp_path / "r.jsonl")
    assert {path: row["species"] for path, row in rows.items()} == {path: row["species"] for path, row in alone.items()}
    told = capsys.readouterr().err
    assert told.count("answers 409: the photos are for the label space ") == 1
    assert "photos are kept until it answers" in told


@pytest.mark.parametrize("deployed", [FEWER], indirect=True)
def test_species_that_the_caches_know_and_the_server_does_not_are_refused(
    run: Run, deployed: Deployed, caches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(deployed.url, folder=caches) == 1
    assert "the label space of toy knows no 'Apis mellifera' as the bundle here" in capsys.readouterr().err
    assert sum(row["stage"] == "main" for row in rows_of(tmp_path / "r.jsonl").values()) == 3


@pytest.mark.parametrize("deployed", [MORE], indirect=True)
def test_a_whole_bundle_wants_its_own_label_space(
    run: Run, deployed: Deployed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sender, "LONGEST", 0.01)
    monkeypatch.setattr(sender, "PATIENCE", 0.3)
    assert run(deployed.url) == 1
    assert "ask a server of the same experiment" in capsys.readouterr().err
