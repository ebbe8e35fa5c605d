"""kill -9 at many moments of the crawl, the API's pages and the download; the same call then ends as if nothing was."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from killing import MOMENTS, files, killed_at, moments_of
from sources.server import Answer, Server, check_list_page
from sources.snapshot import PHOTOS, write_snapshot
from sources.test_darwin_core import write as write_archive
from sources.test_download import jpeg

from pipeline.config import load_config
from pipeline.dataset.stages import run_stages

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    for n in range(1, 9):
        names = {"Insecta": [f"Genus{n} species{i}" for i in range(3)]} if n < 8 else {}
        made.pages[f"/list?page={n}&view=plain"] = Answer(check_list_page(names))
    for number, _, ending, _ in PHOTOS:
        made.pages[f"/photos/{number}/medium.{ending.lower()}"] = Answer(jpeg(number))
    made.pages["/photos/103/medium.jpg"] = Answer(b"<html>", 404)
    monkeypatch.setattr("pyinaturalist.v1.observations.API_V1", f"{made.url}/v1")

    def species(path: str) -> None:
        if path.startswith("/v1/"):
            rows = [{"count": 3, "taxon": {"id": 1, "rank": "species", "name": f"Genus {len(path)}"}}]
            made.pages[path] = Answer(json.dumps({"total_results": 1, "results": rows}).encode())

    made.at_request = species
    yield made
    made.close()


GONE = "/photos/103/medium.jpg"  # is asked for in every call
SOURCES: dict[str, dict[str, Any]] = {
    "check_list": {"region": {"source": "check_list"}},
    "inaturalist_api": {"region": {"source": "inaturalist_api", "place_id": 7}},
    "open_data": {"region": {"source": "open_data", "box": [1, 43, 2, 44], "memory_gb": 0.5}},
    "species_list": {"region": {"source": "species_list"}},
    "darwin_core": {"region": {"source": "darwin_core"}},
}


def write_config(root: Path, source: str, server: Server) -> Path:
    """The configuration, in a folder that everything is written to."""
    paths = {"src_dataset": str(root / "photos"), "output_dir": str(root), "dst_dataset": str(root / "regional")}
    region = SOURCES[source]["region"] | {"contact": "test@example.org"}
    if source == "check_list":
        paths["web_crawl_output_json"] = str(root / "crawled.json")
    if source == "open_data":
        region |= {"file": str(write_snapshot(root.parent / "snapshot"))}
        region |= {"photos": {"download": True, "url": f"{server.url}/photos"}}
    if source == "species_list":
        region |= {"file": str(root.parent / "list.csv")}
        (root.parent / "list.csv").write_text("group,species,count\nAves,Pica pica,7\nInsecta,Apis mellifera,3\n")
    if source == "darwin_core":
        region |= {"file": str(write_archive(root.parent / "gbif.zip"))}
    crawl = {"base_url": f"{server.url}/list?page=", "delay_between_requests": 0.0001}
    root.mkdir()
    (root / "tiny.yaml").write_text(json.dumps({"paths": paths, "web_crawl": crawl, "region": region}))
    return root / "tiny.yaml"


@pytest.mark.parametrize(
    ("source", "stage", "requests"),
    [
        ("check_list", "region", 8),
        ("inaturalist_api", "region", 2),
        ("open_data", "region", 0),
        ("open_data", "download", 6),
        ("species_list", "region", 0),
        ("darwin_core", "region", 0),
    ],
)
def test_killed_at_twenty_moments_it_ends_as_if_it_had_not_been(
    server: Server, tmp_path: Path, source: str, stage: str, requests: int
) -> None:
    root, before = tmp_path / "root", tmp_path / "before"
    config = load_config(write_config(root, source, server))
    if stage == "download":
        run_stages(config, until="region")
    shutil.copytree(root, before)
    run_stages(config, only=stage)
    assert len(server.log) == requests
    whole = files(root)
    shutil.rmtree(root)
    shutil.copytree(before, root)

    def work() -> None:
        run_stages(config, only=stage)

    moments = moments_of(work)
    assert len(moments) == MOMENTS
    for moment in moments:
        shutil.rmtree(root)
        shutil.copytree(before, root)
        server.log.clear()
        assert killed_at(moment, work)
        first = set(server.log)
        server.log.clear()
        run_stages(config, only=stage)
        assert files(root) == whole, moment
        assert len(first & set(server.log) - {GONE}) <= 1, moment  # the one that was on its way
        assert max(server.times().values(), default=0) <= 1
        server.log.clear()
        run_stages(config, only=stage)
        assert set(server.log) <= {GONE}, moment


def test_the_script_killed_from_outside_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    yaml = write_config(tmp_path / "root", "check_list", server)
    command = [sys.executable, "dataset_orchestrator.py", "--config", str(yaml), "--only", "region"]
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)

    def kill(path: str) -> None:
        if "page=6" in path:
            running.kill()

    server.at_request = kill
    assert running.wait(300) == -signal.SIGKILL
    kept = [f"/list?page={n}&view=plain" for n in range(1, 6)]
    assert server.log == [*kept, "/list?page=6&view=plain"]
    server.log.clear()
    server.at_request = lambda path: None
    assert subprocess.run(command, cwd=ROOT, stderr=subprocess.DEVNULL, timeout=300, check=False).returncode == 0
    assert server.log == [f"/list?page={n}&view=plain" for n in (6, 7, 8)]
    assert len(json.loads((tmp_path / "root" / "crawled.json").read_text())["Insecta"]) == 21
