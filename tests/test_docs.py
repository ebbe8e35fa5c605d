"""The commands that the documentation shows are run, word for word, where configs/demo.yaml is a smaller demo.

Slow (a minute of processor time), so only where OMMATIDIA_SLOW is set; that each command's words are understood is tested
always, by test_readme.py. What is not run has its reason here.
"""

from __future__ import annotations

import csv
import json
import os
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from killing import begun, ctrl_c
from tls import certificate

from pipeline import cli
from pipeline.dataset.demo.make import make_demo

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
NOT_RUN = {
    r"configs/(haute_garonne|cub200|nabirds|inat2021|animals15)": "wants photos that are not part of the project, and hours",
    r" run(\.py)? .*(mine\.yaml|my_photos\.yaml|experiment=mine)": "trains networks of full size",
    r"^make ": "sets up what runs these tests",
    r"--camera": "wants the camera of a Raspberry Pi",
    r"--watch|^ommatidia (app|serve)|^curl": "runs until it is stopped, or asks what does: tests of their own, at the end",
    r"--address|--rdzv-endpoint|^ray start": "needs a cluster",
    r"^(eval|export)\b": "is for a shell",
    r"jupyter": "opens a page of its own; the notebooks are run by test_notebooks.py",
    r"^(scp|ssh|sudo|systemctl|journalctl|exit|uname)\b": "is for another machine",
    r"^(python3 -m venv|\S*pip install|cd|mkdir|python3 --version)": "prepares a place for others",
}


def lines(page: Path) -> list[str]:
    """The commands of a page, a line each, in their order; those in blocks of another language are no commands."""
    blocks = [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if not kind]
    given = [re.sub(r"\s+", " ", line).strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in given if line]


def reason(line: str) -> str | None:
    """Why a command is not run."""
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, line)), None)


def runnable(page: Path) -> list[str]:
    return [line for line in lines(page) if not reason(line)]


SHOWN = {page.name: runnable(page) for page in PAGES if runnable(page)}


def test_every_reason_has_a_command() -> None:
    everything = [line for page in PAGES for line in lines(page)]
    for pattern, why in NOT_RUN.items():
        assert any(re.search(pattern, line) for line in everything), why


def test_every_guide_has_commands_that_are_run() -> None:
    assert {"index.md", "photos.md", "choosing.md", "report.md", "device.md", "region.md"} <= set(SHOWN)
    assert sum(map(len, SHOWN.values())) >= 25


# run ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a reader has it, with a demo of small networks that has been through the quick start."""
    if not os.environ.get("OMMATIDIA_SLOW"):
        pytest.skip("slow; set OMMATIDIA_SLOW=1")
    folder = tmp_path_factory.mktemp("place")
    demo = make_demo(folder / "data" / "demo", seed=0, scale=0.08, workers=1)
    shutil.copytree(demo.photos, folder / "photos")
    first, *others = sorted(demo.photos.rglob("*.jpg"))[:3]
    shutil.copy(first, folder / "my_photo.jpg")
    (folder / "more_photos").mkdir()
    for photo in others:
        shutil.copy(photo, folder / "more_photos")
    (folder / "configs").mkdir()
    common = {"recipe": {"size": 64, "crop": 1.0}, "batch_size": 16, "workers": 0, "epochs": 1, "warmup_epochs": 0}
    settings = {
        "global": {"included_classes": ["Arachnida", "Insecta"]},
        "paths": {
            "src_dataset": "data/demo/photos",
            "dst_dataset": "data/demo_region",
            "web_crawl_output_json": "data/demo/region_species.json",
        },
        "train_val_split": {"train_size": 0.6, "val_size": 0.2, "random_state": 0},
        "dataset": {"workers": 1},
        "main": {"model": "test_efficientnet", **common},
        "cache": {**common, "distill": {"teacher": "main"}},
        "quantize": {"calibration_images": 16, "parity_images": 8},
        "route": {"max_drop": 0.5},
        "monte_carlo": {"runs": 100, "samples": 50},
    }
    (folder / "configs" / "demo.yaml").write_text(json.dumps(settings), encoding="utf-8")
    shutil.copy(ROOT / "config.yaml", folder)
    run_all("index.md", folder)
    return folder


def run_all(page: str, folder: Path) -> None:
    for line in SHOWN[page]:
        code, told = run(line, folder)
        some_refused = line.startswith("ommatidia explain")  # not every method takes every network
        assert code in (0, 3 if some_refused else 0), f"{page}: {line}\n{told}"


def run(line: str, folder: Path) -> tuple[int, str]:
    """Run a line: the project's commands in this process, those of the bundle in one of their own, in the bundle."""
    words = shlex.split(line, comments=True)
    if words[1] == "classify.py":
        bundle = folder / "output" / "demo" / "bundle"
        shutil.copytree(folder / "photos", bundle / "photos", dirs_exist_ok=True)
        done = subprocess.run([sys.executable, *words[1:]], cwd=bundle, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr
    script = cli.scripts()[words[1]] if words[0] == "ommatidia" else ROOT / words[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", [script.name, *words[2:]])
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0), "see the captured lines"
    raise AssertionError("a script ends with sys.exit")


@pytest.mark.parametrize("page", sorted(set(SHOWN) - {"index.md"}))
def test_the_commands_of_the_page_work(page: str, place: Path) -> None:
    run_all(page, place)


def test_the_quick_start_leaves_what_it_says(place: Path) -> None:
    for name in ("report.html", "dataset/data_card.html", "bundle/classify.py", "monte_carlo"):
        assert (place / "output" / "demo" / name).exists(), name


def test_the_service_of_the_device_calls_classify_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pipeline.edge.classify import _parse

    text = (ROOT / "docs" / "device.md").read_text(encoding="utf-8")
    [unit] = re.findall(r"^```ini\n(.*?)^```", text, re.M | re.S)
    settings = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)
    assert settings["ExecStart"].startswith(f"{settings['WorkingDirectory']}/.venv/bin/python classify.py ")
    (tmp_path / "incoming").mkdir()
    monkeypatch.chdir(tmp_path)
    given = _parse(shlex.split(settings["ExecStart"])[2:])
    assert given.watch and given.out == Path("results.csv")
    assert settings["SuccessExitStatus"] == "130"


# what runs until it is stopped --------------------------------------------------------------------------------------


def shown(pattern: str) -> list[str]:
    """The commands of all pages that a pattern fits, each once."""
    return list(dict.fromkeys(line for page in PAGES for line in lines(page) if re.search(pattern, line)))


@contextmanager
def serving(line: str, folder: Path) -> Iterator[str]:
    """The address of what the line starts, for this machine, on a port that is free; it is ended by SIGTERM."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    _, name, *words = shlex.split(line)
    server = begun(cli.scripts()[name], *words, "--port", port, "--json", cwd=folder)
    try:
        assert server.stdout and server.stderr
        told = server.stdout.readline()
        assert told and "address" in json.loads(told), (line, told, server.stderr.read())
        yield json.loads(told)["address"].replace("0.0.0.0", "127.0.0.1")
        server.terminate()
        assert server.wait(60) == 0, line
    finally:
        server.kill()
        server.communicate()


def watched(line: str, bundle: Path, photo: Path, **environment: str) -> None:
    """Run the line in a bundle until one photo is answered; Ctrl-C ends it."""
    (bundle / "incoming").mkdir()
    (bundle / "results.csv").unlink(missing_ok=True)  # of another page's commands
    running = begun(*shlex.split(line)[1:], cwd=bundle, **environment)
    try:
        shutil.copy(photo, bundle / "incoming")
        while not ((bundle / "results.csv").is_file() and len((bundle / "results.csv").read_text().splitlines()) > 1):
            assert running.poll() is None, running.communicate()
            time.sleep(0.05)
        code, _, told = ctrl_c(running)
    finally:
        running.kill()
    assert code == 130 and told.endswith("interrupted; the same command goes on\n"), (line, told)
    [row] = csv.DictReader((bundle / "results.csv").open(encoding="utf-8"))
    assert (row["status"], row["path"]) == ("ok", f"incoming/{photo.name}")


def test_the_server_answers_the_requests_that_are_shown(place: Path) -> None:
    [line] = shown(r"^ommatidia serve --config")
    asked = shown(r"^curl")
    assert len(asked) >= 2
    for number in (1, 2):
        shutil.copy(place / "my_photo.jpg", place / f"{number}.jpg")
    with serving(line, place) as address:
        for request in asked:
            words = shlex.split(request.replace("http://127.0.0.1:8000", address))
            done = subprocess.run(
                [*words, "--silent", "--show-error", "--fail"], cwd=place, capture_output=True, check=True
            )
            photos = json.loads(done.stdout)["photos"]
            assert len(photos) == request.count("@") and {photo["status"] for photo in photos} == {"ok"}, request


def test_a_device_asks_the_main_model_of_the_server_that_is_shown(place: Path, tmp_path: Path) -> None:
    [line] = shown(r"^ommatidia serve --bundle")
    [asks] = shown(r"--watch .*--main")
    for name in ("bundle", "device"):
        shutil.copytree(place / "output" / "demo" / "bundle", tmp_path / name)
    certificate(tmp_path)
    (tmp_path / "token").write_text("0123456789abcdef0123456789abcdef\n")
    files = {"OMMATIDIA_TOKEN_FILE": str(tmp_path / "token"), "SSL_CERT_FILE": str(tmp_path / "cert.pem")}
    with serving(line, tmp_path) as address:
        asks = asks.replace("https://main.example:8000", address)
        watched(asks, tmp_path / "device", place / "my_photo.jpg", **files)


def test_a_device_answers_photos_as_they_come(place: Path, tmp_path: Path) -> None:
    [line] = shown(r"--watch (?!.*--main)")
    shutil.copytree(place / "output" / "demo" / "bundle", tmp_path / "bundle")
    watched(line, tmp_path / "bundle", place / "my_photo.jpg")


@pytest.mark.parametrize("line", shown(r"^ommatidia app"))
def test_the_page_is_served_as_it_is_shown(line: str, place: Path) -> None:
    with serving(line, place) as address:
        assert urllib.request.urlopen(f"{address}/_stcore/health", timeout=60).status == 200
