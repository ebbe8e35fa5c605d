"""The data set as a whole: skipped where nothing changed, done again where something did, the same bytes every time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import COUNTS, draw_photo
from PIL import Image
from running import NAMES, TO_MANIFEST, Lines, MakeConfig, files, manifest, redone

import dataset_orchestrator
from pipeline.config import Config
from pipeline.dataset import copying
from pipeline.dataset.stages import STAGES, analyse, label, match, run_stages, split
from pipeline.dataset.stages import manifest as manifest_stage
from pipeline.errors import ConfigError, DataError

# from end to end ----------------------------------------------------------------------------------------------------


def test_all_stages_run_in_order_and_a_second_run_finds_all_up_to_date(make_config: MakeConfig, lines: Lines) -> None:
    assert [stage.name for stage in STAGES] == ["region", "download", *NAMES]
    config = make_config()
    assert run_stages(config) == 0
    assert redone(lines()) == NAMES
    before = files(config)
    assert set(before) >= {"photos_species.json", "photos_composition.json", "matched_species_photos_regional.json"}
    assert set(before) >= {
        "dataset_manifest.parquet",
        "train.parquet",
        "val.parquet",
        "test.parquet",
        "plots/splits.png",
    }
    assert run_stages(config) == 0
    assert [line.split(maxsplit=1) for line in lines()] == [[name, "up to date"] for name in NAMES]
    assert files(config) == before


def test_manifest_holds_every_photo_with_its_label(make_config: MakeConfig) -> None:
    config = make_config()
    run_stages(config, until="manifest")
    made = manifest(config)
    assert made.composition() == {group: dict(sorted(members.items())) for group, members in COUNTS.items()}
    assert made.labels.names == ("Ardea alba", "Apis mellifera", "Vanessa atalanta", "Other")
    assert (made.labels.ids(made.rows["species"].tolist()) == made.rows["label_id"]).all()
    assert json.loads((config.dataset_dir / "dataset_species_labels.json").read_text()) == {
        "0": "Ardea alba",
        "1": "Apis mellifera",
        "2": "Vanessa atalanta",
        "3": "Other",
    }
    counts = json.loads((config.dataset_dir / "species_composition.json").read_text())
    assert counts == {"Ardea alba": 6, "Apis mellifera": 12, "Vanessa atalanta": 6, "Other": 10}
    ranks = json.loads((config.dataset_dir / "class_counts_sorted.json").read_text())["class_counts_sorted"]
    assert ranks[0] == {"class_name": "Apis mellifera", "sample_count": 12, "rank": 1}
    assert [row["class_name"] for row in ranks[3:]] == ["Pica pica", "Pieris rapae", "Harmonia axyridis"]
    for path in made.rows["image_path"]:
        assert (config.paths.dst_dataset / path).is_file()


def test_threshold_one_makes_every_species_a_label_without_other(make_config: MakeConfig) -> None:
    config = make_config("train_val_split.dominant_threshold=1")
    run_stages(config, until="manifest")
    made = manifest(config)
    assert made.labels == made.species()
    assert not made.labels.has_other
    assert len(made.labels) == 6


def test_same_inputs_give_the_same_bytes_in_two_places(make_config: MakeConfig, tmp_path: Path) -> None:
    first, second = (
        make_config(),
        make_config(f"paths.output_dir={tmp_path / 'b'}", f"paths.dst_dataset={tmp_path / 'c/regional'}"),
    )
    (first.paths.src_dataset / "Insecta/Apis mellifera/bad.jpg").write_text("no photo")
    for config in (first, second):
        assert run_stages(config, until="manifest") == 1
    assert len(files(first)) == 15
    assert files(first) == files(second)


def test_species_list_chooses(make_config: MakeConfig, region: Path, lines: Lines) -> None:
    config = make_config(f"paths.web_crawl_output_json={region}", "train_val_split.dominant_threshold=1")
    run_stages(config, until="manifest")
    assert manifest(config).composition() == {
        "Aves": {"Ardea alba": 6},
        "Insecta": {"Apis mellifera": 12, "Pieris rapae": 4},
    }
    report = json.loads((config.dataset_dir / "match_report.json").read_text())
    assert report["only_in_region"] == {"Aves": [], "Insecta": ["Mantis religiosa"]}
    assert report["only_in_photos"]["Aves"] == ["Pica pica"]
    assert "match     3 species of 6 with photos and 4 listed" in lines()
    assert not (config.paths.dst_dataset / "Aves" / "Pica pica").exists()


def test_group_that_is_not_included_is_nowhere(make_config: MakeConfig) -> None:
    config = make_config("global.included_classes=[Insecta]")
    run_stages(config, until="manifest")
    assert set(manifest(config).rows["group"]) == {"Insecta"}


def test_look_alikes_stay_in_one_split(make_config: MakeConfig) -> None:
    config = make_config()
    folder = config.paths.src_dataset / "Insecta" / "Apis mellifera"
    for i in range(6):
        photo = Image.open(folder / f"{i:03}.jpg")
        photo.transpose(Image.Transpose.ROTATE_90).save(folder / f"turned {i}.jpg", quality=70)
        photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / f"flipped {i}.png")
        shutil.copy(folder / f"{i:03}.jpg", folder / f"same {i}.jpg")
    Image.new("RGB", (40, 30)).save(folder / "black.jpg")
    shutil.copy(folder / "black.jpg", folder / "black again.jpg")
    run_stages(config, until="split")
    rows = pd.read_parquet(config.dataset_dir / "split.parquet").set_index("image_path")
    for i in range(6):
        names = [
            f"Insecta/Apis mellifera/{name}"
            for name in (f"{i:03}.jpg", f"turned {i}.jpg", f"flipped {i}.png", f"same {i}.jpg")
        ]
        assert rows.loc[names, "duplicate_group"].nunique() == 1
        assert rows.loc[names, "split"].nunique() == 1
    assert (
        rows.loc[[f"Insecta/Apis mellifera/{n}.jpg" for n in ("black", "black again")], "duplicate_group"].nunique()
        == 1
    )
    assert rows["duplicate_group"].nunique() == 34 + 1
    assert set(rows.loc[rows["species"] == "Apis mellifera", "split"]) == {"train", "val", "test"}


def test_without_near_duplicates_only_equal_files_stay_together(make_config: MakeConfig) -> None:
    config = make_config("dataset.near_duplicates=false")
    folder = config.paths.src_dataset / "Insecta" / "Apis mellifera"
    shutil.copy(folder / "000.jpg", folder / "same.jpg")
    Image.open(folder / "001.jpg").save(folder / "again.jpg", quality=70)
    run_stages(config, until="split")
    assert pd.read_parquet(config.dataset_dir / "split.parquet")["duplicate_group"].nunique() == 35


# only what changed --------------------------------------------------------------------------------------------------


def test_threshold_redoes_labels_and_moves_no_photo(make_config: MakeConfig, lines: Lines) -> None:
    run_stages(make_config(), until="manifest")
    before = manifest(make_config()).rows
    lines()
    run_stages(config := make_config("train_val_split.dominant_threshold=0.9"), until="manifest")
    assert redone(lines()) == ["label", "manifest"]
    after = manifest(config).rows
    assert after["split"].equals(before["split"])
    assert not after["label_id"].equals(before["label_id"])


def test_threshold_with_the_same_labels_redoes_labels_only(make_config: MakeConfig, lines: Lines) -> None:
    run_stages(make_config("train_val_split.dominant_threshold=0.8"), until="manifest")
    lines()
    run_stages(make_config("train_val_split.dominant_threshold=0.85"), until="manifest")
    assert redone(lines()) == ["label"]


@pytest.mark.parametrize("override", ["random_state=7", "train_size=0.6", "val_size=0.05"])
def test_seed_and_shares_redo_the_split(make_config: MakeConfig, lines: Lines, override: str) -> None:
    run_stages(make_config(), until="manifest")
    lines()
    run_stages(make_config(f"train_val_split.{override}"), until="manifest")
    assert redone(lines())[0] == "split"


def test_species_list_redoes_from_match(make_config: MakeConfig, lines: Lines, region: Path) -> None:
    threshold = "train_val_split.dominant_threshold=1"
    run_stages(make_config(threshold), until="manifest")
    lines()
    run_stages(make_config(threshold, f"paths.web_crawl_output_json={region}"), until="manifest")
    assert redone(lines()) == TO_MANIFEST[1:]
    region.write_text(region.read_text().replace("Mantis", "Empusa"))
    run_stages(make_config(threshold, f"paths.web_crawl_output_json={region}"), until="manifest")
    assert redone(lines()) == ["match"]  # the same species match, so nothing after it changes


def test_changed_photo_redoes_what_looks_at_photos(make_config: MakeConfig, lines: Lines) -> None:
    config = make_config()
    run_stages(config, until="manifest")
    lines()
    draw_photo(999).save(config.paths.src_dataset / "Aves/Pica pica/000.jpg", quality=92)
    run_stages(config, until="manifest")
    assert redone(lines()) == ["verify", "split", "label", "manifest"]  # a hard link sees the change
    copied = config.paths.dst_dataset / "Aves/Pica pica/000.jpg"
    assert copied.read_bytes() == (config.paths.src_dataset / "Aves/Pica pica/000.jpg").read_bytes()


def test_new_and_removed_photos_come_and_go(make_config: MakeConfig) -> None:
    config = make_config()
    run_stages(config, until="manifest")
    draw_photo(999).save(config.paths.src_dataset / "Aves/Pica pica/new.jpg")
    (config.paths.src_dataset / "Aves/Pica pica/001.jpg").unlink()
    run_stages(config, until="manifest")
    paths = set(manifest(config).rows["image_path"])
    assert "Aves/Pica pica/new.jpg" in paths
    assert "Aves/Pica pica/001.jpg" not in paths
    assert len(paths) == 34


def test_photo_lost_in_the_regional_set_is_brought_back(make_config: MakeConfig, lines: Lines) -> None:
    config = make_config("dataset.copy_mode=copy")
    run_stages(config, until="manifest")
    (config.paths.dst_dataset / "Aves/Pica pica/000.jpg").unlink()
    (config.paths.dst_dataset / "Aves/Pica pica/001.jpg").write_bytes(b"half a ph")
    lines()
    run_stages(config, until="manifest")
    told = lines()
    assert redone(told) == ["copy"]
    assert f"copy      2 copied, 32 kept in {config.paths.dst_dataset}" in told


@pytest.mark.parametrize("mode", ["copy", "hardlink", "symlink"])
def test_copy_mode_changes_nothing_but_the_files(make_config: MakeConfig, mode: str) -> None:
    config = make_config(f"dataset.copy_mode={mode}")
    run_stages(config, until="manifest")
    first = config.paths.dst_dataset / manifest(config).rows["image_path"][0]
    assert first.is_symlink() == (mode == "symlink")
    assert (first.stat().st_nlink == 2) == (mode == "hardlink")
    assert len(manifest(config).rows) == 34


def test_photos_used_where_they_are(make_config: MakeConfig, photos: Path, lines: Lines) -> None:
    config = make_config(f"paths.dst_dataset={photos}")
    run_stages(config, until="manifest")
    assert f"copy      34 kept in {photos}" in lines()
    run_stages(config, until="manifest")
    assert redone(lines()) == []


def test_overwrite_does_everything_again_with_the_same_result(make_config: MakeConfig, lines: Lines) -> None:
    config = make_config()
    run_stages(config, until="manifest")
    before = files(config)
    lines()
    run_stages(make_config("global.overwrite=true"), until="manifest")
    assert redone(lines()) == TO_MANIFEST
    assert files(config) == before


# killed -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["stamp", "output"])
def test_a_killed_stage_is_done_again(make_config: MakeConfig, lines: Lines, loss: str) -> None:
    config = make_config()
    run_stages(config)
    before = files(config)
    for stage in filter(lambda stage: stage.wanted(config), STAGES):
        outputs = stage.outputs(config)
        if loss == "output" and not outputs:
            continue
        (config.dataset_dir / (outputs[-1] if loss == "output" else f".stamps/{stage.name}.json")).unlink()
        lines()
        run_stages(config)
        assert redone(lines()) == [stage.name]
        assert files(config) == before


@pytest.fixture(scope="module")
def never_killed(_master: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed run makes."""
    folder = tmp_path_factory.mktemp("whole")
    paths = {"src_dataset": _master, "dst_dataset": folder / "regional", "output_dir": folder}
    split = {"dominant_threshold": 0.6}
    config = Config.model_validate({"paths": paths, "dataset": {"workers": 1}, "train_val_split": split})
    run_stages(config, until="manifest")
    return files(config)


@pytest.mark.parametrize(
    "where",
    [
        (analyse, "write_json"),
        (match, "match"),
        (copying.os, "link"),
        (split, "split"),
        (label, "label"),
        (manifest_stage, "write_manifest"),
    ],
    ids=["analyse", "match", "copy", "split", "label", "manifest"],
)
def test_a_kill_half_way_leaves_nothing_that_the_next_run_does_not_mend(
    make_config: MakeConfig,
    never_killed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: tuple[object, str],
) -> None:
    target, name = where
    real, calls = getattr(target, name), []

    def killed(*given: object) -> object:
        calls.append(given)
        if name == "link" and len(calls) < 17:
            return real(*given)
        raise KeyboardInterrupt

    config = make_config()
    with monkeypatch.context() as patched:
        patched.setattr(target, name, killed)
        with pytest.raises(KeyboardInterrupt):
            run_stages(config, until="manifest")
    run_stages(config, until="manifest")
    assert files(config) == never_killed
    assert not [path for path in tmp_path.rglob("*.tmp*")]


# chosen stages ------------------------------------------------------------------------------------------------------


def test_until_stops_after_the_stage(make_config: MakeConfig, lines: Lines) -> None:
    config = make_config()
    run_stages(config, until="match")
    assert redone(lines()) == ["analyse", "match"]
    assert not config.paths.dst_dataset.exists()


def test_only_runs_the_stage_alone(make_config: MakeConfig, lines: Lines) -> None:
    run_stages(make_config(), until="manifest")
    lines()
    run_stages(make_config("train_val_split.dominant_threshold=0.9"), only="label")
    assert redone(lines()) == ["label"]


@pytest.mark.parametrize("which", ["until", "only"])
def test_unknown_stage_lists_the_stages(make_config: MakeConfig, which: str) -> None:
    with pytest.raises(ConfigError, match=f"no stage crawl; stages: region, download, {', '.join(NAMES)}"):
        run_stages(make_config(), **{which: "crawl"})


@pytest.mark.parametrize("name", NAMES[1:])
def test_stage_before_its_turn_says_what_to_run_first(make_config: MakeConfig, name: str) -> None:
    with pytest.raises(
        DataError,
        match=r"(needs .*run the stages before it first \(--until \w+\)|no matched species list \(stage match\))",
    ):
        run_stages(make_config(), only=name)


# the script ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def script(make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    make_config()

    def run(*words: str) -> int:
        arguments = ["dataset_orchestrator.py", "--config", str(tmp_path / "tiny.yaml"), *words]
        monkeypatch.setattr(sys, "argv", arguments)
        return dataset_orchestrator.main()

    return run


def test_exit_codes(script: Callable[..., int], photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script("--until", "label") == 0
    assert capsys.readouterr().out == ""
    (photos / "Aves/Pica pica/bad.jpg").write_text("no photo")
    assert script("--until", "label") == 3
    assert script("--until", "label", "--set", "train_val_split.dominant_threshold=0.1") == 1
    assert "error: dominant_threshold 0.1 is too low: Ardea alba alone" in capsys.readouterr().err
    assert script("--set", "train_val_split.dominant_threshold=0") == 2
    assert script("--until", "nowhere") == 2
    assert "error: no stage nowhere; stages: region, download, analyse, match" in capsys.readouterr().err
    assert script("--set", "paths.src_dataset=/nowhere") == 1
    shown = capsys.readouterr().err
    assert "error: no photo folder at /nowhere; set paths.src_dataset" in shown
    assert "Traceback" not in shown


def test_until_and_only_exclude_each_other(script: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        script("--until", "copy", "--only", "match")
    assert "not allowed with argument" in capsys.readouterr().err


def test_source_is_never_written_to(make_config: MakeConfig, photos: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in photos.rglob("*")}
    run_stages(make_config(), until="manifest")
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in photos.rglob("*")} == before


def test_what_is_slow_to_load_is_loaded_only_where_it_is_used() -> None:
    code = (
        "import sys; import pipeline.dataset.stages; sys.exit(bool({'matplotlib', 'scipy', 'jinja2'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
