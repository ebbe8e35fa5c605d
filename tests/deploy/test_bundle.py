"""The bundle: all that the device needs, nothing else, and the same answers there as here."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import venv
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from toy import COLOURS, PHOTOS, Experiment, write_evaluated, write_model, write_photo

import pipeline.edge
import pipeline.field
from pipeline.config import Config
from pipeline.dataset.manifest import read_manifest
from pipeline.deploy import bundle as module
from pipeline.deploy.bundle import bundle
from pipeline.edge.cascade import load_cascade
from pipeline.errors import DataError, ModelError
from pipeline.evaluation.experiment import with_interval
from pipeline.evaluation.predict import model_file
from pipeline.evaluation.run import evaluate

EDGE = sorted(path.name for path in Path(pipeline.edge.__file__).parent.glob("*.py"))
FIELD = sorted(path.name for path in Path(pipeline.field.__file__).parent.glob("*.py"))
PROMISED = {
    "README.md", "MODEL_CARD.md", "DATA_CARD.md", "self_test.png", "cascade.json", "classify.py", "labels.csv",
    "requirements.txt", "cache_0.5_0.onnx", "main.onnx",
    *(f"edge/{name}" for name in EDGE), *(f"field/{name}" for name in FIELD),
}  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The toy experiment after evaluation."""
    return write_evaluated(tmp_path_factory.mktemp("measured") / "root")


@pytest.fixture
def experiment(measured: Experiment, tmp_path: Path) -> Experiment:
    """The test's own copy."""
    return measured.copy(tmp_path / "root")


@pytest.fixture
def config(experiment: Experiment) -> Config:
    return experiment.config()


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# what is in it ------------------------------------------------------------------------------------------------------


def test_exactly_the_promised_files(config: Config) -> None:
    folder = bundle(config)
    assert folder == config.output / "bundle"
    assert set(content(folder)) == PROMISED
    assert not list(config.output.glob(".bundle*"))


def test_the_edge_code_is_copied_as_it_stands(config: Config) -> None:
    folder = bundle(config)
    for name in EDGE:
        assert (folder / "edge" / name).read_bytes() == (Path(pipeline.edge.__file__).parent / name).read_bytes()


def test_models_are_those_that_were_measured(config: Config) -> None:
    for precision in ("int8", "fp32"):
        with_it = config.model_copy(update={"route": config.route.model_copy(update={"precision": precision})})
        evaluate(with_it)
        folder = bundle(with_it)
        for name in ("cache_0.5_0", "main"):
            assert (folder / f"{name}.onnx").read_bytes() == model_file(config, name, precision).read_bytes()
        assert read(folder / "cascade.json")["precision"] == precision


def test_cascade_json_says_all(config: Config) -> None:
    description = read(bundle(config) / "cascade.json")
    figures = read(config.output / "metrics.json")
    assert description["format_version"] == 2
    assert description["experiment"] == "toy"
    assert description["manifest"] == figures["manifest"]
    measured = figures["cascade"]["int8"]
    assert [stage["rule"] for stage in description["stages"]] == list(measured["rules"].values())
    assert description["measured_on_test"]["accuracy"] == measured["accuracy"]
    cache, main = description["stages"]
    assert (cache["role"], cache["window"], cache["labels"][-1]) == ("cache", [0, 2], "Other")
    assert (main["role"], main["window"], main["labels"]) == ("main", None, list(COLOURS))
    assert set(cache["recipe"]) == {"size", "crop", "fit", "decode_side", "colour_order", "mean", "std"}


def test_labels_csv(config: Config) -> None:
    with (bundle(config) / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["stage"], r["label_id"], r["label"]) for r in rows][:4] == [
        ("cache_0.5_0", "0", "Apis mellifera"),
        ("cache_0.5_0", "1", "Vanessa atalanta"),
        ("cache_0.5_0", "2", "Other"),
        ("main", "0", "Apis mellifera"),
    ]
    assert {r["label"] for r in rows} == {*COLOURS, "Other"}


def test_requirements_are_pinned_to_what_is_installed_here(config: Config) -> None:
    lines = (bundle(config) / "requirements.txt").read_text().splitlines()
    assert lines == [f"{name}=={version(name)}" for name in ("onnxruntime", "numpy", "pillow")]


def test_no_path_of_this_machine_in_it(config: Config, experiment: Experiment) -> None:
    for name, data in content(bundle(config)).items():
        for path in (str(experiment.root), str(Path.cwd()), str(Path.home()) + "/"):
            assert path.encode() not in data, f"{name} holds {path}"


def test_readme_names_the_command_and_the_figures(config: Config) -> None:
    folder = bundle(config)
    text = (folder / "README.md").read_text(encoding="utf-8")
    measured = read(folder / "cascade.json")["measured_on_test"]
    assert ".venv/bin/python classify.py photos/ --topk 5 --out results.csv" in text
    assert f"accuracy {measured['accuracy']:.3f}" in text
    assert "1. `cache_0.5_0.onnx`: 3 labels" in text


def test_the_model_card_tells_use_limits_licences_and_the_measured_figures(config: Config) -> None:
    text = (bundle(config) / "MODEL_CARD.md").read_text(encoding="utf-8").replace("\\", "")
    figures = read(config.output / "metrics.json")
    cascade, main = figures["cascade"]["int8"], figures["models"]["main"]["int8"]
    for part in ("Intended use", "Not intended", "Figures", "Stages", "Limits", "Species it knows least", "Licences"):
        assert f"## {part}" in text
    assert f"| accuracy | {with_interval(cascade, 'accuracy')} |" in text
    assert f"| accuracy of main alone | {with_interval(cascade, 'main_alone_accuracy')} |" in text
    assert f"| {with_interval(main, 'accuracy')} | {with_interval(main, 'macro_f1')} |" in text
    assert cascade["promise"] in text
    worst = text[text.index("Species it knows least") :]
    assert sum(species in worst for species in COLOURS) == len(COLOURS)


def test_the_data_card_tells_species_licences_and_no_photo(config: Config, experiment: Experiment) -> None:
    text = (bundle(config) / "DATA_CARD.md").read_text(encoding="utf-8").replace("\\", "")
    assert "photos came as files. They keep their photographers' licences" in text
    for species, n in PHOTOS.items():
        assert f"| {species} | Insecta |" in text
        assert f" | {n} |" in text
    assert ".png" not in text


def test_the_same_inputs_give_the_same_bytes(config: Config) -> None:
    first = content(bundle(config))
    shutil.rmtree(config.output / "bundle")
    assert content(bundle(config)) == first


# again, and interrupted ---------------------------------------------------------------------------------------------


def test_a_second_time_is_up_to_date(config: Config, lines: Callable[[], list[str]]) -> None:
    folder = bundle(config)
    (folder / "edge" / "__pycache__").mkdir()
    (folder / "edge" / "__pycache__" / "x.pyc").touch()  # somebody tried it on the spot
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}
    lines()
    assert bundle(config) == folder
    assert lines() == ["deploy    up to date"]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")} == before
    assert not list(config.output.glob(".bundle*"))


def test_a_changed_bundle_is_packed_again(config: Config) -> None:
    folder = bundle(config)
    wanted = content(folder)
    (folder / "labels.csv").write_text("edited")
    (folder / "edge" / "older.py").touch()
    (folder / "cache_of_before.onnx").touch()
    edit(folder / "cascade.json", lambda d: d["stages"].append(d["stages"][0] | {"file": "cache_of_before.onnx"}))
    bundle(config)
    assert content(folder) == wanted


def test_what_people_put_into_it_stays(config: Config, lines: Callable[[], list[str]]) -> None:
    folder = bundle(config)
    mine = {
        "results.csv": b"path,status", "photos/bee.jpg": b"a photo", "field/bee.jpg": b"photos from the field",
        "edge/notes/bee.txt": b"of the edge of the wood", "mine.onnx": b"a model", "old/main.onnx": b"another",
    }  # fmt: skip
    for name, data in mine.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    lines()
    bundle(config)
    assert lines() == ["deploy    up to date"]
    (folder / "labels.csv").write_text("edited")
    bundle(config)
    assert set(content(folder)) == PROMISED | set(mine)
    (folder / "cascade.json").write_text("{broken")
    bundle(config)
    assert set(content(folder)) == PROMISED | set(mine)
    assert {name: (folder / name).read_bytes() for name in mine} == mine


def packed_again(config: Config) -> Path:
    """After a change, so that the folder is another one."""
    (config.output / "bundle" / "labels.csv").write_text("edited")
    return bundle(config)


def test_folders_and_links_that_people_put_into_it_stay_as_they_are(config: Config, tmp_path: Path) -> None:
    folder = bundle(config)
    (folder / "incoming" / "today").mkdir(parents=True)
    (folder / "incoming").chmod(0o777)  # where another user puts photos
    (tmp_path / "stick").mkdir()
    (tmp_path / "stick" / "bee.jpg").write_bytes(b"a photo")
    links = {"photos": tmp_path / "stick", "field/latest.jpg": tmp_path / "stick" / "bee.jpg", "lost": Path("../no")}
    for name, place in links.items():
        (folder / name).symlink_to(place)
    packed_again(config)
    assert (folder / "incoming" / "today").is_dir()
    assert (folder / "incoming").stat().st_mode & 0o777 == 0o777
    assert {name: (folder / name).readlink() for name in links} == links
    assert set(content(folder)) == PROMISED | {"field/latest.jpg"}


def test_a_command_that_runs_meanwhile_loses_no_row(config: Config) -> None:
    folder = bundle(config)
    with (folder / "results.csv").open("a") as results:
        print("row 1", file=results, flush=True)
        packed_again(config)
        print("row 2", file=results, flush=True)
        packed_again(config)
        print("row 3", file=results)
    assert (folder / "results.csv").read_text() == "row 1\nrow 2\nrow 3\n"


def test_a_file_system_without_hard_links_gets_copies(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bundle(config)
    (folder / "results.csv").write_text("row")
    before = (folder / "results.csv").stat()

    def refuse(*given: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    packed_again(config)
    assert (folder / "results.csv").read_text() == "row"
    assert (folder / "results.csv").stat().st_mtime_ns == before.st_mtime_ns


def test_what_is_put_into_it_while_it_is_packed_stays(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, real = bundle(config), Path.replace

    def replace(self: Path, other: Path) -> Path:
        if self == folder:
            (folder / "late.jpg").write_bytes(b"a photo")
        return real(self, other)

    monkeypatch.setattr(Path, "replace", replace)
    packed_again(config)
    assert (folder / "late.jpg").read_bytes() == b"a photo"


def test_two_at_once_take_turns(
    config: Config, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    begun, go_on, real = threading.Event(), threading.Event(), module._readme

    def readme(description: dict[str, Any]) -> str:
        begun.set()
        assert go_on.wait(20)
        return real(description)

    monkeypatch.setattr(module, "_readme", readme)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(bundle, config)]
        assert begun.wait(20)
        both.append(pool.submit(bundle, config))
        wait(both, timeout=0.5)
        assert not any(one.done() for one in both)
        go_on.set()
        folder = config.output / "bundle"
        assert [one.result() for one in both] == [folder, folder]
    assert set(content(folder)) == PROMISED
    assert lines()[-1] == "deploy    up to date"
    assert not list(config.output.glob(".bundle*"))


@pytest.mark.parametrize("moment", ["load_cascade", "_readme"])
def test_an_interrupted_deploy_leaves_the_old_bundle(
    config: Config, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    folder = bundle(config)
    (folder / "README.md").write_text("the old one")
    old = content(folder)

    def killed(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, moment, killed)
    with pytest.raises(KeyboardInterrupt):
        bundle(config)
    assert content(folder) == old
    monkeypatch.undo()
    bundle(config)
    assert set(content(folder)) == PROMISED
    assert not list(config.output.glob(".bundle*"))


def test_killed_between_the_two_renames(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bundle(config)
    folder.rename(config.output / ".bundle.old")
    monkeypatch.setattr(module, "load_cascade", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bundle(config)
    assert set(content(folder)) == PROMISED  # the old one is back


# what is refused ----------------------------------------------------------------------------------------------------


def test_no_evaluation_yet(config: Config) -> None:
    shutil.rmtree(config.output)
    with pytest.raises(
        DataError, match=r"no evaluation \(run eval.py with the same --config first\) at .*metrics.json"
    ):
        bundle(config)


def edit(path: Path, change: Callable[[Any], None]) -> None:
    data = read(path)
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["cascade"]["int8"]["rules"]["cache_0.5_0"].update(threshold=0.0),
        lambda m: m["cascade"]["int8"].update(accuracy=1.0),
        lambda m: m["models"]["main"]["int8"].update(sha256="0"),
        lambda m: m.pop("cascade"),
    ],
    ids=["threshold", "accuracy", "hash", "lost"],
)
def test_edited_figures(config: Config, change: Callable[[Any], None]) -> None:
    edit(config.output / "metrics.json", change)
    with pytest.raises(ModelError, match="metrics.json does not fit the settings, or was changed; run eval.py again"):
        bundle(config)
    assert not (config.output / "bundle").exists()


@pytest.mark.parametrize("setting", ["route.threshold=0.9", "route.precision=fp32", "route.max_drop=0.1"])
def test_settings_that_were_not_evaluated(config: Config, experiment: Experiment, setting: str) -> None:
    with pytest.raises(ModelError, match="does not fit the settings, or was changed; run eval.py again"):
        bundle(experiment.config(setting))


def test_another_cache_that_was_not_evaluated(config: Config, experiment: Experiment) -> None:
    with pytest.raises(DataError, match=r"no predictions at .*cache_0.5_7.parquet; run eval.py with the same --config"):
        bundle(experiment.config("cache.start_ranks=[0, 7]"))


def test_another_model_than_the_measured_one(config: Config) -> None:
    hash_ = read_manifest(config.dataset_dir, config.paths.dst_dataset).hash
    write_model(config.models / "main" / "model.int8.onnx", COLOURS, sharpness=9.0, data_hash=hash_)
    with pytest.raises(ModelError, match=r"main/model.int8.onnx is not the file that was measured; run eval.py again"):
        bundle(config)
    assert not (config.output / "bundle").exists()


# it runs ------------------------------------------------------------------------------------------------------------


def photos(folder: Path) -> Path:
    for name, colour in COLOURS.items():
        write_photo(folder / f"{name}.png", colour)
        write_photo(folder / "darker" / f"{name}.jpg", [value * 0.7 for value in colour])
    (folder / "text.jpg").write_text("not a picture")
    return folder


def classify(python: Path | str, folder: Path, where: Path, out: str) -> list[dict[str, Any]]:
    """Call the bundle from another folder, as people do."""
    command = [str(python), str(folder / "classify.py"), str(where), "--out", out]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=where.parent, env=clean, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 3, done.stderr
    lines = (where.parent / out).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def same_as_here(rows: list[dict[str, Any]], folder: Path) -> None:
    cascade = load_cascade(folder)
    assert len(rows) == 2 * len(COLOURS) + 1
    for row in rows:
        here = cascade.classify(row["path"])
        assert (row["species"], row["stage"], row["status"]) == (here.species, here.stage, here.status)
        assert row["score"] == pytest.approx(here.score, abs=1e-4)


def test_it_runs_where_it_was_carried_to(config: Config, tmp_path: Path) -> None:
    carried = Path(shutil.copytree(bundle(config), tmp_path / "a device" / "bundle"))
    shutil.rmtree(config.output / "bundle")
    rows = classify(sys.executable, carried, photos(tmp_path / "photos"), "r.jsonl")
    same_as_here(rows, carried)


def test_it_runs_with_its_three_packages_alone(config: Config, tmp_path: Path) -> None:
    """A clean virtual environment with the bundle's requirements.txt and nothing else."""
    carried = Path(shutil.copytree(bundle(config), tmp_path / "bundle"))
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [*pip, "-r", str(carried / "requirements.txt")], capture_output=True, text=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip("pip did not install the bundle's requirements within two minutes")
    if done.returncode:
        pytest.skip(f"pip cannot install the bundle's requirements here: {done.stderr.strip().splitlines()[-1]}")
    listed = subprocess.run([str(python), "-m", "pip", "list", "--format=json"], capture_output=True, check=True)
    names = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert {"numpy", "pillow", "onnxruntime"} <= names
    assert not names & {"torch", "pandas", "scikit-learn", "pyyaml", "pydantic", "ommatidia"}
    same_as_here(classify(python, carried, photos(tmp_path / "photos"), "r.jsonl"), carried)


# other stages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "packed"),
    [
        (["route.stages=[main]"], ["main"]),
        (["route.stages=[cache_0.5_0]", "route.threshold=0.5"], ["cache_0.5_0"]),
        (["route.max_drop=0"], ["main"]),  # the cache is off, so it stays here
    ],
    ids=["main alone", "no main", "cache off"],
)
def test_the_stages_that_answer_are_packed_and_measured(
    experiment: Experiment, tmp_path: Path, settings: list[str], packed: list[str]
) -> None:
    config = experiment.config(*settings)
    evaluate(config)
    folder = bundle(config)
    assert sorted(path.stem for path in folder.glob("*.onnx")) == packed
    measured = read(config.output / "metrics.json")["cascade"]["int8"]
    assert ("main_alone_accuracy" in measured) == (packed == ["main"])
    assert measured["communication_rate"] == (1 if packed == ["main"] else measured["unknown_rate"])
    assert measured["unknown_rate"] > 0 or packed == ["main"]
    assert ("unknown" in (folder / "README.md").read_text(encoding="utf-8")) == (packed != ["main"])
    answer = load_cascade(folder).classify(write_photo(tmp_path / "a.png", COLOURS["Pieris rapæ"]))
    assert answer.species == ("Pieris rapæ" if packed == ["main"] else "unknown")
