"""train.py: from a configuration to model folders; skipped when up to date, continued when killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import train as script
from pipeline.config import Config
from pipeline.dataset.manifest import experiment_manifest, learnt_manifest, read_manifest, write_manifest
from pipeline.dataset.windows import start_ranks
from pipeline.errors import ConfigError, DataError, LabelSpaceError, ModelError
from pipeline.evaluation.predict import stage_names
from pipeline.files import sha256
from pipeline.labels import LabelSpace
from pipeline.models.checkpoint import load_model, read_card, save_model
from pipeline.models.registry import build
from pipeline.training.run import train_role
from pipeline.training.tracking import Tracker

from .conftest import COLOURS, Killed, kill_after, table

Toy = Callable[..., Config]
ROOT = Path(script.__file__).parent
INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell starts with SIGINT ignored
import train
sys.exit(train.main())
"""
QUICK = ("main.epochs=1", "cache.epochs=1")


def contents(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in folder.iterdir()}


def rewrite(config: Config, rows: pd.DataFrame) -> None:
    """Give the configuration another manifest."""
    old = read_manifest(config.dataset_dir, config.paths.dst_dataset)
    write_manifest(config.dataset_dir, rows, old.labels, old.seed)


def test_main_model_learns_every_species_and_says_what_it_is(toy: Toy) -> None:
    config = toy("main.epochs=5")
    (folder,) = train_role(config, "main")
    assert folder == config.models / "main"
    assert sorted(contents(folder)) == ["model.json", "training_metrics.csv", "weights.safetensors"]
    _, card = load_model(folder)
    assert (card.name, card.role, card.architecture, card.window) == ("main", "main", "test_resnet", None)
    assert card.labels.names == tuple(COLOURS)
    assert card.data_hash == read_manifest(config.dataset_dir, config.paths.dst_dataset).hash
    assert (card.recipe.size, card.recipe.crop, card.recipe.mean) == (32, 1.0, (0.5, 0.5, 0.5))
    assert card.training["finished"] is True
    assert card.metrics["val_acc"] > 0.7  # the most frequent species alone would give 1/3


@pytest.mark.parametrize(
    ("threshold", "start", "name", "labels"),
    [
        (0.5, 0, "cache_0.5_0", ("Bombus", "Colias", "Other")),
        (0.5, 1, "cache_0.5_1", ("Colias", "Apis", "Other")),
        (0.5, 3, "cache_0.5_3", ("Danaus", "Other")),
        (0.85, 0, "cache_0.85_0", ("Bombus", "Colias", "Apis", "Other")),
    ],
)
def test_cache_knows_its_window_in_rank_order_then_other(
    toy: Toy, threshold: float, start: int, name: str, labels: tuple[str, ...]
) -> None:
    config = toy(*QUICK, "cache.warmup_epochs=0", f"cache.threshold={threshold}")
    (folder,) = train_role(config, "cache", [start])
    card = read_card(folder)
    assert (folder.name, card.name, card.role) == (name, name, "cache")
    assert card.labels.names == labels
    assert (card.window, card.threshold) == ((start, len(labels) - 1), threshold)


def test_cache_of_so_many_species_is_named_after_their_number(toy: Toy) -> None:
    (folder,) = train_role(toy(*QUICK, "cache.warmup_epochs=0", "cache.species=1"), "cache")
    card = read_card(folder)
    assert (card.name, card.labels.names, card.threshold) == ("cache_top1_0", ("Bombus", "Other"), None)


def test_every_window_of_the_config_is_trained(toy: Toy) -> None:
    folders = train_role(toy(*QUICK, "cache.start_ranks=[0, 2]"), "cache")
    assert [folder.name for folder in folders] == ["cache_0.5_0", "cache_0.5_2"]
    assert [read_card(folder).labels.names[0] for folder in folders] == ["Bombus", "Apis"]


def test_windows_follow_one_another_whatever_the_threshold(toy: Toy) -> None:
    for threshold, names in (
        (0.5, ["cache_0.5_0", "cache_0.5_2", "main"]),
        (0.85, ["cache_0.85_0", "cache_0.85_3", "main"]),
    ):
        config = toy("cache.windows=2", f"cache.threshold={threshold}")
        assert stage_names(config) == names
    assert [folder.name for folder in train_role(toy(*QUICK, "cache.windows=2"), "cache")] == [
        "cache_0.5_0",
        "cache_0.5_2",
    ]
    assert start_ranks(toy("cache.windows=3", "cache.species=1")) == [0, 1, 2]
    with pytest.raises(ConfigError, match="windows counts the start_ranks itself; give one of the two"):
        toy("cache.windows=2", "cache.start_ranks=[0, 2]")


def test_window_beyond_the_last_rank_is_refused(toy: Toy) -> None:
    with pytest.raises(LabelSpaceError, match="start_rank 4 is outside the 4 ranked species"):
        train_role(toy(*QUICK), "cache", [4])


def test_binary_labels_are_what_models_learn_and_are_judged_by(toy: Toy) -> None:
    config = toy("labels.mode=binary", "main.epochs=5", "cache.epochs=1", "cache.warmup_epochs=0")
    rows = table()
    rows["label_id"] = (~rows["species"].isin(["Bombus", "Colias"])).astype(int)
    write_manifest(config.dataset_dir, rows, LabelSpace(("Dominant", "Other")), config.seed)
    (main,), (cache,) = train_role(config, "main"), train_role(config, "cache")
    for folder in (main, cache):
        assert read_card(folder).labels.names == ("Dominant", "Other")
    assert read_card(main).metrics["val_acc"] > 0.65  # the more frequent label alone would give 7/12
    learnt = learnt_manifest(config)
    assert learnt.rows.groupby("species")["label_id"].unique().map(list).to_dict() == {"Dominant": [0], "Other": [1]}
    assert learnt.hash == read_card(main).data_hash
    assert set(experiment_manifest(config).rows["species"]) == set(COLOURS)


def test_trained_model_is_left_alone(toy: Toy, lines: Callable[[], list[str]]) -> None:
    (folder,) = train_role(toy(*QUICK), "main")
    before = contents(folder)
    lines()
    train_role(toy(*QUICK, "main.workers=1"), "main")  # workers change nothing, so they are no other setting
    assert contents(folder) == before
    assert lines() == [f"train     up to date: {folder}"]


def test_other_dominant_species_are_no_other_data_set(toy: Toy, lines: Callable[[], list[str]]) -> None:
    config = toy(*QUICK)
    (folder,) = train_role(config, "main")
    lines()
    rows = table()
    rows["label_id"] = (~rows["species"].isin(["Bombus", "Colias"])).astype(int) * 2
    write_manifest(config.dataset_dir, rows, LabelSpace(("Bombus", "Colias", "Other")), config.seed)
    train_role(config, "main")
    assert lines() == [f"train     up to date: {folder}"]
    write_manifest(config.dataset_dir, rows.assign(sha256="another photo"), LabelSpace(tuple(COLOURS)), config.seed)
    with pytest.raises(ModelError, match=r"main was trained with other settings \(manifest\)"):
        train_role(config, "main")


def test_same_command_gives_the_same_model(toy: Toy) -> None:
    first, second = (train_role(toy(*QUICK, f"experiment={name}"), "main")[0] for name in "ab")
    assert sha256(first / "weights.safetensors") == sha256(second / "weights.safetensors")
    for setting in ("train_val_split.random_state=7", "main.seed=7"):
        other = train_role(toy(*QUICK, "experiment=c", setting, "global.overwrite=true"), "main")[0]
        assert sha256(first / "weights.safetensors") != sha256(other / "weights.safetensors")


@pytest.mark.parametrize(
    ("then", "now", "changed"),
    [
        ((), ("main.lr=0.01",), "lr"),
        ((), ("main.recipe.size=48",), "recipe"),
        ((), ("main.class_weights=inverse", "main.patience=3"), "class_weights, patience"),
        (("main.patience=3",), (), "patience"),  # back to the default
        ((), ("main.model=test_convnext",), "model"),
        ((), ("train_val_split.random_state=7",), "seed"),
        ((), ("main.seed=7",), "seed"),
    ],
)
def test_changed_setting_is_refused_by_name(
    toy: Toy, then: tuple[str, ...], now: tuple[str, ...], changed: str
) -> None:
    (folder,) = train_role(toy(*QUICK, *then), "main")
    before = contents(folder)
    with pytest.raises(
        ModelError, match=rf"main was trained with other settings \({changed}\); .* --set global\.overwrite=true"
    ):
        train_role(toy(*QUICK, *now), "main")
    assert contents(folder) == before


def test_overwrite_trains_anew(toy: Toy) -> None:
    (folder,) = train_role(toy(*QUICK), "main")
    (folder / "last.pt").write_bytes(b"left by a killed training")
    train_role(toy(*QUICK, "main.lr=0.01", "global.overwrite=true"), "main")
    assert read_card(folder).training["settings"]["lr"] == 0.01
    assert sorted(contents(folder)) == ["model.json", "training_metrics.csv", "weights.safetensors"]


def test_overwriting_training_that_was_killed_goes_on(toy: Toy, lines: Callable[[], list[str]]) -> None:
    settings = ("main.epochs=3", "global.overwrite=true")
    (whole,) = train_role(toy(*settings, "experiment=whole"), "main")
    config = toy(*settings, "experiment=killed")

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
        tracker = Tracker(kill_after(1), lambda *_: None)
        patched.setattr("pipeline.training.run.tracking", lambda *_: nullcontext(tracker))
        train_role(config, "main")
    lines()
    (folder,) = train_role(config, "main")
    assert "main: going on after epoch 1" in lines()
    assert sha256(folder / "weights.safetensors") == sha256(whole / "weights.safetensors")
    train_role(config, "main")
    assert not any("going on" in line for line in lines())  # a finished one is trained anew


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])  # a kill of the process, Ctrl-C to all of the terminal's
def test_training_ended_from_outside_is_continued_by_the_same_command(toy: Toy, tmp_path: Path, how: str) -> None:
    settings = ("main.epochs=6", "main.workers=1", "experiment=killed")
    config = toy(*settings)
    overrides = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-c", INTERRUPTIBLE, "--config", str(tmp_path / "toy.yaml"), *overrides, "main"]
    alike = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}  # another test may have changed those here
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True, env=alike
    ) as process:
        until = time.monotonic() + 100
        while not (config.models / "main" / "last.pt").is_file() and time.monotonic() < until:
            time.sleep(0.01)
        os.killpg(process.pid, signal.Signals[how])
        _, said = process.communicate(timeout=100)
    assert "Traceback" not in said
    if how == "SIGINT":
        assert process.returncode == 130
        assert said.splitlines()[-1] == "interrupted; what is finished is kept, the same command goes on from there"
    assert not read_card(config.models / "main").training["finished"]
    assert len(pd.read_csv(config.models / "main" / "training_metrics.csv")) < 6
    (killed,) = train_role(config, "main")
    (whole,) = train_role(toy("main.epochs=6", "experiment=whole"), "main")
    for ending in ("last.pt", "training_metrics.csv"):
        assert (killed / ending).exists() == (whole / ending).exists()
    assert sha256(killed / "weights.safetensors") == sha256(whole / "weights.safetensors")
    assert read_card(killed) == read_card(whole)
    tables = [pd.read_csv(folder / "training_metrics.csv").drop(columns="seconds") for folder in (killed, whole)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_finished_model_is_kept_by_the_tracker(toy: Toy) -> None:
    pytest.importorskip("mlflow")
    config = toy(*QUICK, "main.tracking=[mlflow]")
    (folder,) = train_role(config, "main")
    (kept,) = (config.paths.output_dir / "tracking" / "mlflow").rglob("artifacts")
    for name in ("weights.safetensors", "training_metrics.csv"):
        assert (kept / name).read_bytes() == (folder / name).read_bytes()
    assert read_card(kept) == read_card(folder)


def test_leftover_state_of_a_finished_model_is_removed(toy: Toy) -> None:
    (folder,) = train_role(toy(*QUICK), "main")
    (folder / "last.pt").write_bytes(b"killed between the last card and the removal")
    train_role(toy(*QUICK), "main")
    assert not (folder / "last.pt").exists()


def test_cache_learns_from_the_main_model(toy: Toy) -> None:
    config = toy("main.epochs=5", "cache.epochs=4", "cache.distill.teacher=main", "cache.distill.weight=1.0")
    (main,) = train_role(config, "main")
    (cache,) = train_role(config, "cache")
    assert read_card(cache).metrics["val_acc"] > 0.6
    assert read_card(cache).training["settings"]["teacher"] == read_card(main).weights_sha256


def test_missing_teacher_is_named(toy: Toy) -> None:
    with pytest.raises(ModelError, match=r"no trained model in .*main; run train\.py"):
        train_role(toy(*QUICK, "cache.distill.teacher=main"), "cache")


def test_teacher_of_another_manifest_is_refused(toy: Toy) -> None:
    config = toy(*QUICK, "cache.distill.teacher=main")
    train_role(config, "main")
    rewrite(config, table().assign(sha256="another photo"))
    with pytest.raises(ModelError, match=r"the teacher main was trained on manifest \w+, this one is \w+; train the"):
        train_role(config, "cache")
    assert not (config.models / "cache_0.5_0" / "model.json").exists()


def test_cache_of_a_former_teacher_is_refused(toy: Toy) -> None:
    config = toy(*QUICK, "cache.distill.teacher=main")
    (main,) = train_role(config, "main")
    train_role(config, "cache")
    torch.manual_seed(1)
    save_model(main, build("test_resnet", 4), read_card(main))
    with pytest.raises(ModelError, match=r"cache_0\.5_0 was trained with other settings \(teacher\)"):
        train_role(config, "cache")


def test_several_teachers_of_other_experiments_teach(toy: Toy) -> None:
    first, second = (train_role(toy(*QUICK, f"experiment={name}"), "main")[0] for name in ("first", "second"))
    taught = toy("main.epochs=2", "experiment=taught", "main.distill.teacher=[first/main, second/main]")
    (folder,) = train_role(taught, "main")
    hashes = [read_card(teacher).weights_sha256 for teacher in (first, second)]
    assert read_card(folder).training["settings"]["teacher"] == hashes


@pytest.mark.parametrize("name", ["main", "a/b/main"])
def test_model_cannot_teach_itself(toy: Toy, name: str) -> None:
    with pytest.raises(
        ConfigError, match=f"distill.teacher '{name}': main learns from another model, NAME .*or EXPERIMENT/NAME"
    ):
        train_role(toy(*QUICK, f"main.distill.teacher={name}"), "main")


def test_unfinished_teacher_is_refused(toy: Toy) -> None:
    config = toy(*QUICK, "cache.distill.teacher=main")
    (main,) = train_role(config, "main")
    network, card = load_model(main)
    save_model(main, network, replace(card, training={**card.training, "finished": False}))
    with pytest.raises(ModelError, match=r"main is still in training; let its train\.py end first"):
        train_role(config, "cache")


def test_changed_manifest_is_refused_when_a_killed_training_is_continued(toy: Toy) -> None:
    config = toy(*QUICK)
    (folder,) = train_role(config, "main")
    network, card = load_model(folder)
    save_model(folder, network, replace(card, training={**card.training, "finished": False}))
    before = contents(folder)
    rewrite(config, table().assign(sha256="another photo"))
    with pytest.raises(ModelError, match=r"main was trained with other settings \(manifest\)"):
        train_role(config, "main")
    assert contents(folder) == before


def test_model_folder_is_started_from_by_name(toy: Toy, lines: Callable[[], list[str]]) -> None:
    (main,) = train_role(toy("main.epochs=4", "experiment=before"), "main")
    (cache,) = train_role(toy(*QUICK, "cache.warmup_epochs=0", f"cache.pretrained={main}", "cache.lr=1e-12"), "cache")
    assert "train     cache_0.5_0: 2 of 3 labels are known to main" in lines()
    ours, theirs = load_model(cache)[0].state_dict(), load_model(main)[0].state_dict()
    torch.testing.assert_close(ours["fc.weight"][:2], theirs["fc.weight"][1:3])  # Bombus and Colias
    assert read_card(cache).training["settings"]["pretrained"] == read_card(main).weights_sha256
    assert read_card(cache).pretrained == "main"


def test_photos_left_out_are_exit_code_3(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.dataset.verify.MOST_UNREADABLE", 0.05)
    config = toy("experiment=toy")
    rows = table()
    (tmp_path / "broken.jpg").write_text("no photo")
    rows.loc[0, "image_path"] = str(tmp_path / "broken.jpg")
    rewrite(config, rows)
    for _ in range(2):  # trained, then up to date
        monkeypatch.setattr(sys, "argv", ["train.py", "--config", str(tmp_path / "toy.yaml"), "main", "--epochs", "1"])
        assert script.main() == 3


@pytest.mark.parametrize("split", ["train", "val"])
def test_empty_part_is_named_with_the_setting(toy: Toy, split: str) -> None:
    config = toy(*QUICK)
    rewrite(config, table().replace({"split": {split: "test"}}))
    with pytest.raises(DataError, match=f"the {split} part of the manifest is empty; check train_val_split"):
        train_role(config, "main")


def test_photos_that_are_gone_are_named_before_training(toy: Toy) -> None:
    config = toy(*QUICK)
    rows = table()
    rows.loc[0, "image_path"] = "Insecta/Apis/gone.jpg"
    rewrite(config, rows)
    with pytest.raises(DataError, match=r"1 photos of the train part are gone, e\.g\. .*gone\.jpg; run dataset_orch"):
        train_role(config, "main")


def test_missing_manifest_names_the_command(toy: Toy) -> None:
    config = toy()
    (config.dataset_dir / "dataset_manifest.parquet").unlink()
    with pytest.raises(
        DataError, match=r"no manifest at .*; run dataset_orchestrator\.py with the same --config first"
    ):
        train_role(config, "main")


def test_pretrained_file_is_loaded_and_known_by_its_bytes(toy: Toy, tmp_path: Path) -> None:
    file = tmp_path / "Backbone.safetensors"
    torch.manual_seed(99)
    save_file(build("test_resnet", 4).state_dict(), file)
    config = toy(*QUICK, f"main.pretrained={file}", "main.lr=1e-12", "main.weight_decay=0")
    (folder,) = train_role(config, "main")
    network, card = load_model(folder)
    torch.manual_seed(99)
    torch.testing.assert_close(network.conv1[0].weight, build("test_resnet", 4).conv1[0].weight)
    assert card.pretrained == "Backbone.safetensors"
    assert card.training["settings"]["pretrained"] == sha256(file)
    assert str(tmp_path) not in (folder / "model.json").read_text()
    file.rename(tmp_path / "moved.safetensors")
    train_role(replace_pretrained(config, tmp_path / "moved.safetensors"), "main")  # the same bytes: up to date
    save_file(build("test_resnet", 4).state_dict(), tmp_path / "moved.safetensors")
    with pytest.raises(ModelError, match=r"other settings \(pretrained\)"):
        train_role(replace_pretrained(config, tmp_path / "moved.safetensors"), "main")


def replace_pretrained(config: Config, file: Path) -> Config:
    return config.model_copy(update={"main": config.main.model_copy(update={"pretrained": file})})


def test_weights_that_cannot_be_used_leave_no_model(toy: Toy, tmp_path: Path) -> None:
    torch.save(build("test_resnet", 4), tmp_path / "pickled.pth")
    config = toy(*QUICK, f"main.pretrained={tmp_path / 'pickled.pth'}")
    with pytest.raises(ModelError, match=r"pickled\.pth is a pickled checkpoint that would execute code"):
        train_role(config, "main")
    assert not (config.models / "main").exists()


def test_card_of_an_older_version_is_explained(toy: Toy) -> None:
    (folder,) = train_role(toy(*QUICK), "main")
    network, card = load_model(folder)
    save_model(folder, network, replace(card, training={**card.training, "fingerprint": "of another version"}))
    with pytest.raises(ModelError, match=r"other settings \(an older version\)"):
        train_role(toy(*QUICK), "main")


# the command line -----------------------------------------------------------------------------------------------------


@pytest.fixture
def command(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs train.py with these arguments on the toy configuration; returns its exit code."""
    toy("experiment=toy")

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["train.py", "--config", str(tmp_path / "toy.yaml"), *arguments])
        return script.main()

    return run


def test_users_flags_reach_the_training(command: Callable[..., int], tmp_path: Path) -> None:
    flags = "cache --threshold 0.85 --start_rank 1 --start_rank 0 --img_size 48 48 --model test_convnext --epochs 1"
    assert command(*flags.split(), "--batch_size", "13", "--lr", "1e-5", "--workers", "1") == 0
    folders = sorted((tmp_path / "models" / "toy").iterdir())
    assert [folder.name for folder in folders] == ["cache_0.85_0", "cache_0.85_1"]
    card = read_card(folders[1])
    assert (card.architecture, card.recipe.size, card.threshold, card.window) == ("test_convnext", 48, 0.85, (1, 3))
    told = card.training["settings"]
    assert (told["epochs"], told["batch_size"], told["lr"]) == (1, 13, 1e-5)


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ("main --start_rank 7", 2, "--start_rank choose the species of a cache"),
        ("main --threshold 0.5", 2, "--threshold and --start_rank choose the species of a cache"),
        ("retrain", 2, "names of models belong to retrain: train.py retrain NAME"),
        ("main main_p50", 2, "names of models belong to retrain: train.py retrain NAME"),
        ("retrain main_p50", 1, "no trained model in"),
        ("main --img_size 160 120", 2, "--img_size [160, 120]: the network's input is square, give one side"),
        ("cache --threshold 1.5", 2, "cache.threshold"),
        ("main --model test_resnt", 1, "did you mean test_resnet"),
        ("cache --start_rank 99", 1, "start_rank 99 is outside the 4 ranked species"),
    ],
)
def test_wrong_flags_are_explained_in_one_sentence(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], flags: str, code: int, message: str
) -> None:
    assert command(*flags.split()) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
