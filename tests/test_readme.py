"""What README and documentation show is there and is understood; what is pinned is pinned the same everywhere."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from pipeline import cli
from pipeline.config import Config, load_config

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
TEXT = "\n".join(PAGES.values())


def blocks(text: str, language: str = "") -> list[str]:
    """What stands between fences of this language."""
    return [body for name, body in re.findall(r"^```([^\n]*)\n(.*?)^```", text, re.M | re.S) if name == language]


BLOCKS = blocks(README)
LINES = [
    line.strip()
    for text in PAGES.values()
    for block in blocks(text)
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip()
]
COMMANDS = sorted({line for line in LINES if re.match(r"((\S*/)?python3?\s+\w+\.py|ommatidia)\b", line)})
MADE = {shlex.split(line)[2] for line in COMMANDS if re.search(r" create[-_]config(\.py)? ", line)}
CONFIGS = sorted([ROOT / "config.yaml", *(ROOT / "configs").glob("*.yaml")])


def targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return {name for line in re.findall(r"^([\w ]+):(?!=)", text, re.M) for name in line.split()}


def test_the_two_commands_stand_at_the_top() -> None:
    assert BLOCKS[0].split("\n")[:2] == ["make demo", "make test"]


def test_every_make_command_is_a_target() -> None:
    wanted = set(re.findall(r"\bmake ([a-z]+)\b", "\n".join([*LINES, *re.findall(r"`([^`\n]*)`", TEXT)])))
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
    _, name, *arguments = words
    name = cli.scripts()[name].name if words[0] == "ommatidia" else name
    if name == "classify.py":  # of the bundle; the photos are the reader's own
        from pipeline.edge.classify import _parse

        monkeypatch.setattr(Path, "exists", lambda path: True)
        given = _parse(arguments)
        assert given.photos or given.camera
        return
    assert (ROOT / name).is_file()
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    script = importlib.import_module(name.removesuffix(".py"))
    configurations = []

    def run(_: object, given: argparse.Namespace) -> int:
        path = Path("config.yaml") if str(given.config) in MADE else given.config
        configurations.append(load_config(path, given.overrides))
        return 0

    monkeypatch.setattr(script, "run", run)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    assert script.main() == 0
    assert len(configurations) == 1


@pytest.mark.parametrize("page", PAGES)
def test_everything_that_is_named_exists(page: str) -> None:
    text = PAGES[page]
    for name in re.findall(r"`(\w+\.py)\b", text):
        assert list(ROOT.glob(name)) or list(ROOT.glob(f"pipeline/**/{name}")), name
    for name in re.findall(r"`((?:pipeline|tests|configs)/[\w/.]+)`", text):
        assert (ROOT / name).exists() or re.search("stripes|test_named|/named.py", name), name  # examples of new ones
    for name in re.findall(r"\]\(((?!http)[^)#]+)", text):
        assert ((ROOT / page).parent / name).exists(), name


def test_every_setting_that_is_named_exists() -> None:
    sections = {field.alias or name: field.annotation for name, field in Config.model_fields.items()}
    named = [found for found in re.findall(r"`(\w+)\.(\w+)\b(?!\.)", TEXT) if found[0] in sections]
    assert len(named) > 20
    for section, key in named:
        if key not in ("csv", "html", "json", "md", "py", "yaml"):
            assert key in sections[section].model_fields, f"{section}.{key}"


def test_the_examples_of_code_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each as the module that the page says, then the test that stands below it."""
    given = iter(blocks(PAGES["docs/extending.md"], "python"))
    for name in ("pipeline.models.stripes", "pipeline.training.losses", "pipeline.dataset.formats.named"):
        known = sys.modules.get(name)
        module = ModuleType(name) if known is None else known
        there: dict[str, Any] = {}
        exec(next(given), there)
        for key, value in there.items():
            monkeypatch.setattr(module, key, value, raising=False)
        monkeypatch.setitem(sys.modules, name, module)
        test: dict[str, Any] = {}
        exec(next(given), test)
        [call] = [value for key, value in test.items() if key.startswith("test_")]
        call(tmp_path) if call.__code__.co_argcount else call()
    assert next(given, None) is None


def test_the_documentation_has_every_page() -> None:
    navigation = str(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    for page in (ROOT / "docs").glob("*.md"):
        assert f"'{page.name}'" in navigation


def test_the_demo_installs_what_it_runs_with_alone() -> None:
    done = subprocess.run(["make", "-n", "-B", "demo"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "-r requirements.txt" in done.stdout
    assert "requirements-dev" not in done.stdout


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
        assert re.fullmatch(r"[A-Za-z0-9_.-]+(\[\w+\])?==[\w.]+", line), line


def test_environment_yml_installs_the_same_pins() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    [pip] = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-r requirements-dev.txt"]  # relative to environment.yml


def test_development_builds_on_what_runs() -> None:
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    assert not set(pins("requirements.txt")) & set(pins("requirements-dev.txt"))
