"""The command line: exit codes, one sentence per error, progress, and help that answers at once."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from killing import INTERRUPTED, begun, ctrl_c

from pipeline.console import DONE, FAILED, SOME_FAILED, WRONG_USAGE, configuration, log, parser, progress, run
from pipeline.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ["dataset_orchestrator.py", "train.py"]


@pytest.fixture(autouse=True)
def _quiet_afterwards() -> Iterator[None]:
    level = log.level
    yield
    log.setLevel(level)


def arguments(*words: str) -> argparse.Namespace:
    return parser("Do it.", "  do.py").parse_args(words)


def fails_with(error: BaseException, *words: str) -> int:
    def work(_: argparse.Namespace) -> None:
        raise error

    return run(work, arguments(*words))


def test_exit_codes_are_the_documented_ones() -> None:
    assert (DONE, FAILED, WRONG_USAGE, SOME_FAILED) == (0, 1, 2, 3)
    assert run(lambda _: None, arguments()) == 0
    assert run(lambda _: SOME_FAILED, arguments()) == 3


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (DataError("no photos; add some"), 1, "error: no photos; add some\n"),
        (ConfigError("key x is wrong"), 2, "error: key x is wrong\n"),
        (OSError(28, "No space left on device", "/x/y"), 1, "error: No space left on device: /x/y\n"),
        (OSError("broken"), 1, "error: broken\n"),
        (KeyboardInterrupt(), 130, "interrupted; what is finished is kept, the same command goes on from there\n"),
    ],
)
def test_error_is_one_line_on_stderr(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, words: str
) -> None:
    assert fails_with(error) == code
    assert capsys.readouterr() == ("", words)


def test_facts_are_the_exit_code_and_with_json_one_object_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    def work(_: argparse.Namespace) -> dict[str, object]:
        print("a library prints")
        return {"failed": 2, "folder": Path("output") / "é", "accuracy": 0.5}

    assert run(work, arguments()) == SOME_FAILED
    assert capsys.readouterr() == ("a library prints\n", "")
    assert run(work, arguments("--json")) == SOME_FAILED
    told, lines = capsys.readouterr()
    assert lines == "a library prints\n"
    assert len(told.splitlines()) == 1
    found = json.loads(told)
    assert found.pop("seconds") >= 0
    assert found == {"exit_code": 3, "error": None, "failed": 2, "folder": "output/é", "accuracy": 0.5}


def test_json_tells_paths_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    code = "import sys; from pipeline.console import parser, run\n"
    code += "sys.exit(run(lambda given: {'folder': given.config}, parser('', '').parse_args()))"
    command = [sys.executable, "-c", code, "--json", "--config", name]
    for encoding in ("utf-8", "ascii"):
        told = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": encoding}, stdout=subprocess.PIPE
        )
        assert (told.returncode, json.loads(told.stdout)["folder"]) == (0, name)


def test_what_a_program_waits_for_is_an_object_before_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    def work(given: argparse.Namespace) -> None:
        given.tell({"address": "http://é:8000"})
        assert capsys.readouterr() == (first, "")

    first = ""
    assert run(work, arguments()) == DONE
    first = '{"address": "http://\\u00e9:8000"}\n'
    assert run(work, arguments("--json")) == DONE
    assert json.loads(capsys.readouterr().out)["exit_code"] == 0


@pytest.mark.parametrize(
    ("error", "code"), [(DataError("no photos"), 1), (ConfigError("no"), 2), (KeyboardInterrupt(), 130)]
)
def test_json_also_tells_what_went_wrong(capsys: pytest.CaptureFixture[str], error: BaseException, code: int) -> None:
    assert fails_with(error, "--json") == code
    told, sentence = capsys.readouterr()
    found = json.loads(told)
    assert found["exit_code"] == code
    assert found["error"] in sentence


@pytest.mark.parametrize(("flag", "told"), [("--quiet", ["careful"]), ("--verbose", ["news", "careful"])])
def test_quiet_tells_warnings_alone(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, flag: str, told: list[str]
) -> None:
    (tmp_path / "c.yaml").write_text("global: {verbose: true}")

    def work(given: argparse.Namespace) -> None:
        configuration(given)
        log.info("news")
        log.warning("careful")

    assert run(work, arguments(flag, "--config", str(tmp_path / "c.yaml"))) == 0
    assert caplog.messages == told


def test_the_next_command_is_told_on_a_terminal_alone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for terminal, told in ((False, []), (True, ["next: eval.py"])):
        monkeypatch.setattr("sys.stderr.isatty", lambda answer=terminal: answer)
        assert run(lambda _: {"next": "eval.py"}, arguments()) == 0
        assert caplog.messages == told


WORKING = """
import multiprocessing, sys, time
from concurrent.futures import ProcessPoolExecutor
from pipeline.console import leave_interrupts, parser, run, starting_workers

def work(arguments):
    with ProcessPoolExecutor(2, multiprocessing.get_context(arguments.start), leave_interrupts) as pool:
        with starting_workers():
            done = pool.map(time.sleep, [0.1] * 50)
        print("started", flush=True)
        for _ in done:
            print("working", flush=True)

if __name__ == "__main__":
    begun = parser("Do it.", "  do.py")
    begun.add_argument("start")
    sys.exit(run(work, begun.parse_args()))
"""


@pytest.mark.parametrize(("start", "moment"), [("fork", "working"), ("spawn", "started"), ("spawn", "working")])
def test_ctrl_c_is_one_line_although_worker_processes_get_it_too(start: str, moment: str, tmp_path: Path) -> None:
    (tmp_path / "do.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r}){WORKING}")
    running = begun(tmp_path / "do.py", start, "--quiet")
    while running.stdout.readline().strip() != moment:
        assert running.poll() is None
    time.sleep(0.2)  # those that were started may be importing
    code, _, told = ctrl_c(running)
    assert (code, told) == (130, INTERRUPTED)


def test_own_mistakes_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        fails_with(ZeroDivisionError())


@pytest.mark.parametrize("how", ["flag", "file"])
def test_verbose_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("global: {verbose: true}" if how == "file" else "")

    def work(given: argparse.Namespace) -> None:
        assert configuration(given).global_.verbose
        raise DataError("no photos")

    assert run(work, arguments("--config", str(path), *(["--verbose"] if how == "flag" else []))) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("error: no photos\n")


def test_overrides_reach_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("train_val_split: {random_state: 1}")
    given = arguments(
        "--config", str(tmp_path / "c.yaml"), "--set", "train_val_split.random_state=2", "--set", "experiment=x"
    )
    config = configuration(given)
    assert (config.seed, config.experiment) == (2, "x")


def test_a_log_file_per_run_has_lines_and_errors_with_their_level(tmp_path: Path) -> None:
    arguments = parser("d", "e").parse_args(
        ["--set", f"global.log_dir={tmp_path / 'logs'}", "--config", str(tmp_path / "c.yaml")]
    )
    (tmp_path / "c.yaml").touch()

    def work(arguments: argparse.Namespace) -> None:
        configuration(arguments)
        log.info("one thing")
        log.warning("another")
        raise DataError("no photos")

    assert run(work, arguments) == FAILED
    log.warning("after the run")
    [file] = (tmp_path / "logs").iterdir()
    assert re.fullmatch(r"log_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d\.txt", file.name)
    assert file.read_text() == "[INFO] one thing\n[WARNING] another\n[ERROR] no photos\n"


def test_progress_yields_everything_and_tells_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ommatidia")
    assert list(progress("abc", 3, "verify", every=-1.0)) == ["a", "b", "c"]
    assert caplog.messages[0].startswith("verify: 1 of 3, about ")


def test_progress_is_silent_when_it_is_quick(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ommatidia")
    assert list(progress("abc", 3, "verify")) == ["a", "b", "c"]
    assert not caplog.messages


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_answers_within_half_a_second_of_processor_time(script: str) -> None:
    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    start = used()
    shown = subprocess.run([sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert used() - start < 0.5
    for part in ("examples:", "--config", "--set SECTION.KEY=VALUE", "--verbose", "exit codes: 0 done"):
        assert part in shown.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_imports_nothing_heavy(script: str) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['{script}', '--help']\n"
        "try:\n"
        f"    runpy.run_path('{script}', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "heavy = {'torch', 'pandas', 'numpy', 'PIL', 'matplotlib', 'pydantic', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
