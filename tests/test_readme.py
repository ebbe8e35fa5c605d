"""What the README shows is there and is understood; what is pinned is pinned the same everywhere."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.config import load_config

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```[^\n]*\n(.*?)^```", README, re.M | re.S)
LINES = [line.strip() for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line.strip()]
SAID = [*LINES, *(f"{name} --help" for name in re.findall(r"`(\w+\.py)", README))]
COMMANDS = [line for line in LINES if re.match(r"(\S*/)?python3?\s+\w+\.py", line)]
CONFIGS = sorted([ROOT / "config.yaml", *(ROOT / "configs").glob("*.yaml")])


def targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return {name for line in re.findall(r"^([\w ]+):(?!=)", text, re.M) for name in line.split()}


def test_the_two_commands_stand_at_the_top() -> None:
    assert BLOCKS[0].split("\n")[:2] == ["make demo", "make test"]


def test_every_make_command_is_a_target() -> None:
    wanted = set(re.findall(r"\bmake ([a-z]+)\b", "\n".join([*BLOCKS, *re.findall(r"`([^`]*)`", README)])))
    assert {"demo", "test"} <= wanted <= targets()


def test_make_knows_its_targets() -> None:
    for name in ("demo", "test", "check", "setup"):
        done = subprocess.run(["make", "-n", name], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script is there, knows the flags, and the configuration loads; no work is done."""
    words = shlex.split(command, comments=True)
    name, arguments = next((word, words[i + 1 :]) for i, word in enumerate(words) if word.endswith(".py"))
    if name == "classify.py":  # of the bundle; the photos are the reader's own
        from pipeline.edge.classify import _parse

        monkeypatch.setattr(Path, "exists", lambda path: True)
        assert _parse(arguments).photos
        return
    assert (ROOT / name).is_file()
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    script = importlib.import_module(name.removesuffix(".py"))
    configurations = []
    monkeypatch.setattr(
        script, "run", lambda work, given: configurations.append(load_config(given.config, given.overrides)) or 0
    )
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    assert script.main() == 0
    assert len(configurations) == 1


def test_every_script_and_room_that_is_named_exists() -> None:
    for name in re.findall(r"`(\w+\.py)\b", README):
        assert (ROOT / name).is_file() or name == "classify.py", name
    for name in re.findall(r"`(pipeline/[\w/]+)`", README):
        assert (ROOT / name).is_dir(), name
    for name in re.findall(r"\]\(((?!http)[^)#]+)", README):
        assert (ROOT / name).exists(), name


# configurations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_configuration_loads(path: Path) -> None:
    config = load_config(path)
    assert config.experiment
    assert load_config(path, ["main.epochs=7"]).main.epochs == 7


# pins ---------------------------------------------------------------------------------------------------------------


def pins(name: str) -> list[str]:
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("-r ")]


def test_everything_is_pinned() -> None:
    for line in [*pins("requirements.txt"), *pins("requirements-dev.txt")]:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[\w.]+", line), line


def test_environment_yml_holds_the_same_pins() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    [pip] = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == [*pins("requirements.txt"), *pins("requirements-dev.txt")]


def test_development_builds_on_what_runs() -> None:
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    assert not set(pins("requirements.txt")) & set(pins("requirements-dev.txt"))
