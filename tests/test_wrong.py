"""Every command called wrong in three ways: the exit code, and the sentence that names the cause and what to do."""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from toy import Experiment, write_experiment

from pipeline import cli

ROOT = Path(__file__).resolve().parents[1]
DATASET_FIRST = "run dataset_orchestrator.py with the same --config first"
TRAIN_FIRST = "run train.py with the same --config first"

# `empty` has no photos and no models, `toy` has photos, manifest and exported models but no weights, `broken` is no YAML
WRONG = [
    ("app --config toy.yaml", 1, "/toy/bundle; run deploy.py with the same --config first"),
    ("app --config nosuch.yaml", 2, "no configuration at nosuch.yaml"),
    ("app --config toy.yaml --port ten", 2, "argument --port: invalid int value: 'ten'"),
    ("cost --config empty.yaml", 1, f"no trained model in {{models}}/empty; {TRAIN_FIRST}"),
    ("cost --config toy.yaml --model nosuch", 1, f"no trained model in {{models}}/toy/nosuch; {TRAIN_FIRST}"),
    ("cost --config toy.yaml --model", 2, "argument --model: expected one argument"),
    ("create-config", 2, "the following arguments are required: FILE"),
    ("create-config toy.yaml --yes --config empty.yaml", 2, "toy.yaml is there already; give another name, or --overwrite"),
    ("create-config new.yaml --yes --config broken.yaml", 2, "broken.yaml is not readable YAML"),
    ("dataset --config empty.yaml", 1, "set paths.src_dataset"),
    ("dataset --config empty.yaml --until macth", 2, "no stage macth; stages: region, download, analyse"),
    ("dataset --config empty.yaml --until match --only copy", 2, "argument --only: not allowed with argument --until"),
    ("deploy --config toy.yaml", 1, "run eval.py with the same --config first"),
    ("deploy --config toy.yaml --singel_file", 2, "unrecognized arguments: --singel_file; did you mean --single_file?"),
    ("deploy --config toy.yaml --set route.precison=int8", 2, "unknown key route.precison; did you mean precision?"),
    ("design --config empty.yaml", 1, DATASET_FIRST),
    ("design --config nosuch.yaml", 2, "no configuration at nosuch.yaml; --config takes a YAML file, e.g. configs/demo.yaml"),
    ("design --config toy.yaml --set route.max_drop=2", 2, "--set: route.max_drop (is 2): "),
    ("eval --config empty.yaml", 1, DATASET_FIRST),
    ("eval --config toy.yaml --speed 0", 2, "--speed takes a number of photos, not 0"),
    ("eval --config toy.yaml --images nosuch", 1, "no photos in species folders below nosuch; expected <species>/<photo>.jpg"),
    ("eval --config toy.yaml --compare main", 2, "a comparison takes two different names or more"),
    ("eval-multiple --config toy.yaml", 2, "the section sweep is empty; give it keys with lists"),
    ("eval-multiple --config toy.yaml --set 'sweep={paths.src_dataset: [a]}'", 2, "all members share the data set"),
    ("eval-multiple --config toy.yaml --set 'sweep={cache.threshold: 0.5}'", 2, "sweep (is 0.5): Input should be a valid list"),
    ("explain --config toy.yaml --methods gradcan", 2, "no method 'gradcan'; did you mean gradcam?"),
    ("explain --config empty.yaml", 1, f"; {TRAIN_FIRST}"),
    ("explain --config toy.yaml --check 50 --groups 3", 2, "argument --groups: not allowed with argument --check"),
    ("explain --config toy.yaml photo.jpg --check 50", 2, "--check and --visualise take no IMAGE"),
    ("monte-carlo --config toy.yaml --model huge", 2, "no model 'huge' to simulate; choose of small, big, both, caches"),
    ("monte-carlo --config toy.yaml --runs ten", 2, "argument --runs/--num_runs: invalid int value: 'ten'"),
    ("monte-carlo --config toy.yaml --input_size 99", 1, "--input_size 99 does not fit the models"),
    ("predict --config toy.yaml --out out", 2, "the following arguments are required: --input"),
    ("predict --config toy.yaml --out out --input a", 1, "/toy/bundle; run deploy.py with the same --config first"),
    ("predict --config toy.yaml --out out --input nowhere --model main", 2, "no file or folder nowhere; --input takes a folder"),
    ("predict --config toy.yaml --out out --input a --address b:1", 2, "--address is of --engine ray"),
    ("prune --config toy.yaml --model nosuch", 1, f"no trained model in {{models}}/toy/nosuch; {TRAIN_FIRST}"),
    ("prune --config toy.yaml --ratios 2", 2, "ratio 2 would leave no channel"),
    ("prune --config toy.yaml --importance size", 2, "--set: prune.importance (is 'size'): "),
    ("quantize --config empty.yaml", 1, DATASET_FIRST),
    ("quantize --config toy.yaml --model nosuch", 1, f"no trained model in {{models}}/toy/nosuch; {TRAIN_FIRST}"),
    ("quantize --config toy.yaml --set quantize.method=best", 2, "--set: quantize.method (is 'best'): "),
    ("run --config broken.yaml", 2, "broken.yaml is not readable YAML"),
    ("run --config empty.yaml", 1, "set paths.src_dataset"),
    ("run --config empty.yaml --set experiment", 2, "--set takes section.key=value, not 'experiment'"),
    ("serve --config toy.yaml", 1, "/toy/bundle; run deploy.py with the same --config first"),
    ("serve --config toy.yaml --model main --port 70000", 2, "--port must lie between 0 and 65535, not 70000"),
    ("serve --config toy.yaml --model main --precision fp32 --max-mb nan", 2, "above 0 and finite: body_mb is nan"),
    ("serve --bundle nowhere --set main.epochs=1", 2, "--bundle names all that answers; leave out --config"),
    ("serve --bundle nowhere", 1, "nowhere; this is not a bundle"),
    ("train --config toy.yaml", 2, "the following arguments are required: role"),
    ("train --config toy.yaml main --start_rank 3", 2, "--threshold and --start_rank choose the species of a cache"),
    ("train --config toy.yaml retrain nosuch", 1, f"no trained model in {{models}}/toy/nosuch; {TRAIN_FIRST}"),
    ("train-multiple --config toy.yaml", 2, "the section sweep is empty; give it keys with lists"),
    ("train-multiple --config nosuch.yaml", 2, "no configuration at nosuch.yaml"),
    ("train-multiple --config toy.yaml --set 'sweep={main.model: [a], route.stages: [[b]], dataset.format: [flat]}'", 2,
     "sweep.dataset.format: all members share the data set"),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    drawn = write_experiment(tmp_path_factory.mktemp("wrong") / "root")
    settings = json.loads(drawn.yaml.read_text(encoding="utf-8"))
    settings["paths"] |= {"src_dataset": str(drawn.root / "nowhere"), "dst_dataset": str(drawn.root / "nowhere")}
    (drawn.root / "empty.yaml").write_text(json.dumps(settings), encoding="utf-8")
    (drawn.root / "broken.yaml").write_text("main: {epochs: [", encoding="utf-8")
    return drawn


@pytest.mark.parametrize(("line", "code", "sentence"), WRONG, ids=[row[0] for row in WRONG])
def test_a_wrong_call_is_told_in_one_sentence(
    line: str,
    code: int,
    sentence: str,
    folder: Experiment,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command, *words = shlex.split(line)
    name = cli.scripts()[command].stem
    monkeypatch.chdir(folder.root)
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    try:
        given: Any = importlib.import_module(name).main()
    except SystemExit as end:  # of argparse
        given = end.code
    told = capsys.readouterr()
    last = told.err.splitlines()[-1]
    assert (given, told.out) == (code, ""), last
    assert "error: " in last
    assert sentence.format(models=folder.root / "models") in last


@pytest.mark.parametrize("command", sorted({row[0].split()[0] for row in WRONG}))
def test_three_ways_each(command: str) -> None:
    assert sum(row[0].split()[0] == command for row in WRONG) >= 3
