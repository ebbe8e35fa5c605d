"""The scripts, as people call them: quick help, exit codes, the users' documented calls."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from toy import COLOURS, Experiment, write_experiment, write_photo

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
HEAVY = ("torch", "onnxruntime", "pandas", "sklearn", "matplotlib", "pydantic")

HELP = """
import json, runpy, sys, time
script, heavy = sys.argv[1], sys.argv[2:]
sys.argv = [script, "--help"]
code = None
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit as end:
    code = end.code
print(json.dumps([code, time.process_time(), [name for name in heavy if name in sys.modules]]))
"""


def call(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def script(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Call a script's main() in this process; returns the exit code."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    monkeypatch.syspath_prepend(str(ROOT))
    code = importlib.import_module(name).main()
    assert isinstance(code, int)
    return code


@pytest.fixture
def toy(tmp_path: Path) -> Experiment:
    return write_experiment(tmp_path / "toy")


# help ---------------------------------------------------------------------------------------------------------------


def test_the_scripts_are_the_verbs() -> None:
    assert {"dataset_orchestrator.py", "train.py", "quantize.py", "eval.py"} <= set(SCRIPTS)
    assert {"monte_carlo.py", "deploy.py", "run.py", "prune.py", "cost.py"} <= set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_answers_at_once_and_imports_nothing_heavy(name: str) -> None:
    done = call("-c", HELP, name, *HEAVY)
    *text, last = done.stdout.splitlines()
    code, seconds, imported = json.loads(last)
    assert code == 0
    assert imported == []
    assert seconds < 0.5
    told = "\n".join(text)
    assert "--config" in told
    assert "--set SECTION.KEY=VALUE" in told
    assert "examples:" in told
    assert f"  {name} " in told
    assert "exit codes: 0 done, 1 failed, 2 wrong usage or config, 3 done but some items failed" in told


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_thin(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 60


# what goes wrong ----------------------------------------------------------------------------------------------------


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence on stderr."""
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr.splitlines()[-1]


def positional(name: str) -> list[str]:
    wanted = {
        "train.py": ["main"],
        "create_config.py": ["new.yaml"],
        "predict.py": ["--input", "photos", "--out", "out"],
    }
    return wanted.get(name, [])


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_wrong_configuration_is_exit_code_2(name: str, tmp_path: Path) -> None:
    done = call(name, *positional(name), "--config", str(tmp_path / "no.yaml"))
    assert done.returncode == 2
    assert error_of(done).startswith(f"error: no configuration at {tmp_path / 'no.yaml'}")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_wrong_flag_is_exit_code_2(name: str) -> None:
    done = call(name, *positional(name), "--nonsense")
    assert done.returncode == 2
    assert "unrecognized arguments: --nonsense" in error_of(done)


@pytest.mark.parametrize(
    "name", ["eval", "monte_carlo", "deploy", "app", "quantize", "prune", "train", "run", "dataset_orchestrator"]
)
def test_what_is_missing_is_exit_code_1_and_says_what_to_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    yaml = tmp_path / "empty.yaml"
    paths = {key: str(tmp_path / key) for key in ("src_dataset", "dst_dataset", "output_dir", "models_dir")}
    yaml.write_text(json.dumps({"paths": paths}))
    assert script(name, [*positional(f"{name}.py"), "--config", str(yaml)], monkeypatch) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    wanted = {
        "deploy": "run eval.py with the same --config first",
        "app": "run deploy.py with the same --config first",
        "run": "set paths.src_dataset",
        "dataset_orchestrator": "set paths.src_dataset",
    }
    assert wanted.get(name, "run dataset_orchestrator.py with the same --config first") in error


def test_missing_models_say_what_to_run(
    toy: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (toy.root / "models" / "toy" / "main" / "model.onnx").unlink()
    for name in ("eval", "monte_carlo"):
        precision = "fp32" if name == "monte_carlo" else "int8"
        assert script(name, ["--config", str(toy.yaml), "--set", f"route.precision={precision}"], monkeypatch) == 1
        assert "run train.py and quantize.py with the same --config first" in capsys.readouterr().err.splitlines()[-1]


def test_a_corrupt_model_is_one_sentence(
    toy: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (toy.root / "models" / "toy" / "main" / "model.onnx").write_text("not a network")
    assert script("eval", ["--config", str(toy.yaml)], monkeypatch) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: model.onnx cannot be loaded")


# run.py -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("unusable", "lost", "code"), [(0, 0, 0), (2, 0, 3), (0, 1, 3)])
def test_run_does_all_steps_in_order_and_tells_of_bad_photos(
    toy: Experiment, monkeypatch: pytest.MonkeyPatch, unusable: int, lost: int, code: int
) -> None:
    steps: list[str] = []

    def step(name: str, result: Any = None) -> Any:
        return lambda config, *more: steps.append(" ".join((name, *more))) or result

    results = {"run_stages": unusable, "evaluate": lost, "train_role": []}
    monkeypatch.setattr("pipeline.outcome.of_evaluation", lambda config, failed: {"failed": failed})
    monkeypatch.setattr("pipeline.outcome.of_bundle", lambda folder: {"bundle": folder})
    for name in ("run_stages", "train_role", "quantize_models", "evaluate", "monte_carlo", "bundle", "write_report"):
        monkeypatch.setattr(f"pipeline.everything.{name}", step(name, results.get(name)))
    assert script("run", ["--config", str(toy.yaml)], monkeypatch) == code
    assert steps == [
        "run_stages", "train_role main", "train_role cache", "quantize_models", "evaluate", "monte_carlo both toy",
        "bundle", "write_report",
    ]  # fmt: skip


# eval.py ------------------------------------------------------------------------------------------------------------


def test_eval_speed_and_deploy(toy: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    assert script("eval", ["--config", str(toy.yaml), "--speed", "5"], monkeypatch) == 0
    output = toy.root / "output" / "toy"
    assert json.loads((output / "speed.json").read_text())["photos"] == 5
    assert script("deploy", ["--config", str(toy.yaml)], monkeypatch) == 0
    assert (output / "bundle" / "classify.py").is_file()


@pytest.mark.parametrize("n", ["0", "-3", "many"])
def test_eval_speed_takes_a_number_of_photos(n: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as end:
        script("eval", [f"--speed={n}"], monkeypatch)
    assert end.value.code == 2


def test_eval_of_a_folder_with_a_broken_photo_is_exit_code_3(toy: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = toy.root / "field" / "Apis mellifera"
    write_photo(folder / "1.png", COLOURS["Apis mellifera"])
    command = ["--config", str(toy.yaml), "--images", str(toy.root / "field")]
    assert script("eval", command, monkeypatch) == 0
    (folder / "2.jpg").write_text("not a picture")
    assert script("eval", command, monkeypatch) == 3


def test_eval_with_a_test_photo_that_broke_is_exit_code_3(toy: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    (toy.root / "regional" / "Insecta" / "Apis mellifera" / "02.png").write_text("not a picture any more")
    for _ in range(2):
        assert script("eval", ["--config", str(toy.yaml)], monkeypatch) == 3


# monte_carlo.py, as the users' documentation has it -----------------------------------------------------------------


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the script asks for."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr("pipeline.evaluation.simulation.simulation.monte_carlo", lambda *given: calls.append(given))
    return calls


def test_the_documented_call(simulated: list[Any], toy: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    call_ = "--model both --input_size 160 --runs 10 --samples 500 --out_prefix myexp"
    assert script("monte_carlo", ["--config", str(toy.yaml), *call_.split()], monkeypatch) == 0
    [(config, model, prefix, sizes)] = simulated
    assert (model, prefix, list(sizes)) == ("both", "myexp", [160])
    assert (config.monte_carlo.runs, config.monte_carlo.samples) == (10, 500)


def test_the_aliases(simulated: list[Any], toy: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    call_ = "--model small --num_runs 7 --sample_size 30 --threshold 0.25 --input_size 160 160"
    assert script("monte_carlo", ["--config", str(toy.yaml), *call_.split()], monkeypatch) == 0
    [(config, model, _, sizes)] = simulated
    assert (model, list(sizes)) == ("small", [160, 160])
    assert (config.monte_carlo.runs, config.monte_carlo.samples, config.cache_threshold) == (7, 30, 0.25)


def test_without_flags_the_configuration_counts(
    simulated: list[Any], toy: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert script("monte_carlo", ["--config", str(toy.yaml)], monkeypatch) == 0
    [(config, model, prefix, sizes)] = simulated
    assert (model, prefix, list(sizes)) == ("both", "monte_carlo", [])
    assert (config.monte_carlo.runs, config.monte_carlo.samples) == (50, 40)


@pytest.mark.parametrize(
    "wrong", ["--runs 0", "--samples -1", "--threshold 1.5", "--model huge", "--runs ten", "--input_size"]
)
def test_wrong_values_are_exit_code_2(wrong: str, toy: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        code: Any = script("monte_carlo", ["--config", str(toy.yaml), *wrong.split()], monkeypatch)
    except SystemExit as end:
        code = end.code
    assert code == 2


def test_the_documented_call_works(toy: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = toy.root / "output" / "toy" / "monte_carlo"
    for model in ("small", "big", "both"):
        call_ = f"--model {model} --input_size 32 --runs 10 --samples 500 --out_prefix myexp"
        assert script("monte_carlo", ["--config", str(toy.yaml), *call_.split()], monkeypatch) == 0
        assert json.loads((folder / f"myexp_{model}.json").read_text())["runs"] == 10
        assert len((folder / f"myexp_{model}_runs.csv").read_text().splitlines()) == 11


def test_another_input_size_than_the_models_have_is_exit_code_1(
    toy: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script("monte_carlo", ["--config", str(toy.yaml), "--input_size", "160"], monkeypatch) == 1
    assert "error: --input_size 160 does not fit the models" in capsys.readouterr().err


def test_a_cache_of_another_threshold_must_be_trained_first(
    toy: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script("monte_carlo", ["--config", str(toy.yaml), "--threshold", "0.25"], monkeypatch) == 1
    assert "cache_0.25_0" in capsys.readouterr().err
