"""The package: its wheel holds all that runs, and the command `ommatidia` finds the very scripts of the repository."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from pipeline import __version__, cli

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
CONFIGS = [ROOT / "config.yaml", *sorted((ROOT / "configs").glob("*.yaml"))]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

TIMED = """
import json, sys, time
from pipeline import cli
sys.argv = ["ommatidia", *sys.argv[1:]]
try:
    code = cli.main()
except SystemExit as end:
    code = end.code
heavy = [name for name in ("torch", "onnxruntime", "pandas", "matplotlib", "pydantic") if name in sys.modules]
print(json.dumps([code, time.process_time(), heavy]))
"""


def call(*words: str, folder: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with the package of this folder, from another one."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# the command --------------------------------------------------------------------------------------------------------


def test_every_script_is_a_command() -> None:
    assert sorted(path.name for path in cli.scripts().values()) == SCRIPTS
    assert {"dataset", "train", "quantize", "eval", "monte-carlo", "design", "deploy", "run", "create-config"} <= set(
        cli.scripts()
    )


def test_the_usage_has_a_line_per_command() -> None:
    lines = cli.usage().splitlines()
    for name in cli.scripts():
        [line] = [line for line in lines if line.startswith(f"  {name} ")]
        assert line.endswith(".") and len(line) < 160


def test_what_scripts_are_shortened_to_exists() -> None:
    assert set(cli.SHORT.values()) <= {Path(name).stem for name in SCRIPTS}


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_without_a_command_it_tells_them(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ommatidia", *words])
    assert cli.main() == 0
    assert capsys.readouterr().out == f"{cli.usage()}\n"


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["ommatidia", "--version"])
    assert cli.main() == 0
    assert capsys.readouterr().out == f"ommatidia {__version__}\n"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("trian", "did you mean train?"), ("evall", "did you mean eval?"), ("xyz", "commands: ")],
)
def test_a_wrong_command_is_exit_code_2(
    wrong: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ommatidia", wrong])
    assert cli.main() == 2
    assert capsys.readouterr().err.startswith(f"error: no command '{wrong}'; {said}")


@pytest.mark.parametrize("name", ["eval-multiple", "eval_multiple", "eval_multiple.py"])
def test_a_command_has_the_name_of_its_script_too(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ommatidia", name, "--config", "no.yaml"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: no configuration at no.yaml")


# completion ---------------------------------------------------------------------------------------------------------


def completions(line: str, file: Path, *words: str) -> list[str]:
    """What the shell is told for this line, as its function asks (argcomplete); the words start the program."""
    asked = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n"}
    command = [sys.executable, "-c", IMPORTED, *words]
    environment = {**os.environ, **asked, "_ARGCOMPLETE_STDOUT_FILENAME": str(file)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return file.read_text(encoding="utf-8").split("\n")


IMPORTED = """
import os, runpy, sys
script = sys.argv.pop(1)
sys.path.insert(0, os.getcwd())

def ends(code):  # argcomplete's way out
    heavy = [name for name in ("torch", "numpy", "pandas", "pydantic", "yaml") if name in sys.modules]
    leave(bool(heavy))

leave, os._exit = os._exit, ends
runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("ommatidia ", {*cli.scripts(), "--version"}),
        ("ommatidia tr", {"train", "train-multiple"}),
        ("ommatidia train ", {"main", "cache", "retrain", "--epochs", "--config"}),
        ("ommatidia train.py --ep", {"--epochs "}),
        ("ommatidia monte-carlo --config configs/dem", {"configs/demo.yaml "}),
    ],
)
def test_the_command_is_completed_and_nothing_heavy_is_imported(line: str, some: set[str], tmp_path: Path) -> None:
    assert some <= set(completions(line, tmp_path / "told", "pipeline/cli.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_completes_its_arguments(name: str, tmp_path: Path) -> None:
    assert {"--json", "--config", "--set"} <= set(completions(f"./{name} --", tmp_path / "told", name))


# pyproject.toml -----------------------------------------------------------------------------------------------------


def test_every_package_is_listed() -> None:
    there = {".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "pipeline").rglob("__init__.py")}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == {*there, "pipeline.scripts"}


def test_extras_have_the_pins_of_development() -> None:
    lines = [
        (ROOT / name).read_text(encoding="utf-8").splitlines() for name in ("requirements.txt", "requirements-dev.txt")
    ]
    pinned = {line.split("#")[0].strip() for text in lines for line in text}
    for extra, wanted in PYPROJECT["project"]["optional-dependencies"].items():
        assert set(wanted) <= pinned, extra


def test_the_citation_has_the_version_and_the_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    assert (citation["version"], citation["license"]) == (__version__, PYPROJECT["project"]["license"])
    assert citation["message"] and citation["title"] and citation["authors"]


# the image ----------------------------------------------------------------------------------------------------------


def test_the_image_is_made_of_what_is_there_and_pinned_and_not_run_as_root() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"]
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    assert set(copied) == set(let_in)
    assert all(list(ROOT.glob(name)) for name in copied)
    [base] = [line for line in lines if line.startswith("FROM ")]
    assert re.fullmatch(r"FROM python:3\.\d+\.\d+-slim-\w+", base)
    [user] = [line for line in lines if line.startswith("USER ")]
    assert user != "USER root" and user != "USER 0"


def test_the_linter_of_images_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")  # of requirements-dev.txt
    done = subprocess.run([linter, str(ROOT / "Dockerfile")], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


# the wheel ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what it is made of, so that the build leaves nothing in the repository."""
    if not (importlib.util.find_spec("setuptools") and importlib.util.find_spec("pip")):
        pytest.skip("pip and setuptools are needed to build a wheel")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in (*SCRIPTS, "pyproject.toml", "requirements.txt", "README.md", "LICENSE", "config.yaml"):
        shutil.copy(ROOT / name, source)
    for name in ("pipeline", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "tests").mkdir()
    (source / "tests" / "stray.py").write_text("")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*command, "-w", out, source], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    [result] = out.glob("*.whl")
    return result


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel in a folder of its own."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*command, "--target", folder, wheel], check=True, timeout=300, capture_output=True)
    return folder


def test_the_wheel_holds_the_package_the_scripts_and_the_configurations(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "pipeline").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    shipped = {f"pipeline/scripts/{file.relative_to(ROOT).as_posix()}" for file in CONFIGS}
    assert names == package | shipped | {f"pipeline/scripts/{name}" for name in SCRIPTS}


def test_the_installed_command_is_the_console_script(installed: Path, tmp_path: Path) -> None:
    done = call(str(installed / "bin" / "ommatidia"), "--help", folder=installed, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{cli.usage()}\n")


@pytest.mark.parametrize("name", cli.scripts())
def test_installed_help_answers_at_once(name: str, installed: Path, tmp_path: Path) -> None:
    done = call("-c", TIMED, name, "--help", folder=installed, cwd=tmp_path)
    *text, last = done.stdout.splitlines()
    code, seconds, heavy = json.loads(last)
    assert (code, heavy) == (0, [])
    assert seconds < 0.5
    assert "examples:" in text


def test_installed_it_works_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    """It starts from the configuration that came with the package, and says so; a file of one's own goes first."""
    command = str(installed / "bin" / "ommatidia")
    done = call(command, "create-config", "mine.yaml", "--yes", folder=installed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no config.yaml here; taking the one that came with the package" in done.stderr
    done = call(command, "create-config", "next.yaml", "--yes", "--config", "mine.yaml", folder=installed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "came with the package" not in done.stderr
    mine, following = (yaml.safe_load((tmp_path / name).read_text()) for name in ("mine.yaml", "next.yaml"))
    assert following == mine | {"paths": mine["paths"] | {"dst_dataset": "data/next"}}
