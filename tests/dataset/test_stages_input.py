"""What the data set is made from: other formats and settings, and bad input, which is told and mends itself or stops."""

from __future__ import annotations

import json
import shutil
import tarfile
import unicodedata
from pathlib import Path

import pytest
from conftest import draw_photo, write_photos
from PIL import Image
from running import Lines, MakeConfig, manifest, redone

from pipeline.dataset.stages import run_stages
from pipeline.errors import ConfigError, DataError

# other sources and settings -----------------------------------------------------------------------------------------


@pytest.fixture
def packed(photos: Path, tmp_path: Path) -> tuple[str, ...]:
    """The tiny folder as iNaturalist 2021 comes: a JSON beside a tar."""
    root = tmp_path / "inat"
    root.mkdir()
    paths = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg"))
    with tarfile.open(root / "train_mini.tar.gz", "w:gz") as tar:
        tar.add(photos, "train_mini")
    names = sorted({path.rpartition("/")[0] for path in paths})
    images = [{"id": i, "file_name": f"train_mini/{path}"} for i, path in enumerate(paths)]
    shown = [{"image_id": i, "category_id": names.index(path.rpartition("/")[0])} for i, path in enumerate(paths)]
    categories = [
        {
            "id": i,
            "name": name.split("/")[1],
            "supercategory": {"Aves": "Birds", "Insecta": "Insects"}[name.split("/")[0]],
        }
        for i, name in enumerate(names)
    ]
    content = {"images": images, "annotations": shown, "categories": categories}
    (root / "train_mini.json").write_text(json.dumps(content))
    return (f"paths.src_dataset={root}", "dataset.format=inat_json")


def test_photos_of_a_tar_arrive_without_unpacking_the_rest(
    make_config: MakeConfig, packed: tuple[str, ...], lines: Lines, region: Path
) -> None:
    config = make_config(*packed, f"paths.web_crawl_output_json={region}", "train_val_split.dominant_threshold=1")
    run_stages(config, until="manifest")
    assert manifest(config).composition() == {
        "Aves": {"Ardea alba": 6},
        "Insecta": {"Apis mellifera": 12, "Pieris rapae": 4},
    }
    assert len(list(config.paths.dst_dataset.rglob("*.jpg"))) == 22
    assert not (config.paths.src_dataset / "train_mini").exists()
    lines()
    run_stages(config, until="manifest")
    assert redone(lines()) == []
    next(config.paths.dst_dataset.rglob("*.jpg")).unlink()
    run_stages(config, until="manifest")
    assert f"copy      1 copied, 21 kept in {config.paths.dst_dataset}" in lines()
    with pytest.raises(ConfigError, match=r"dataset\.store takes photos that are files; unpack the archives first"):
        run_stages(make_config(*packed, "dataset.store.size=32"), until="copy")


def test_a_photo_that_changed_in_the_tar_changes_in_the_data_set(
    make_config: MakeConfig, packed: tuple[str, ...], photos: Path, lines: Lines
) -> None:
    config = make_config(*packed, "train_val_split.dominant_threshold=1")
    run_stages(config, until="verify")
    draw_photo(999).save(photos / "Aves/Pica pica/000.jpg", quality=92)
    with tarfile.open(config.paths.src_dataset / "train_mini.tar.gz", "w:gz") as tar:
        tar.add(photos, "train_mini")
    lines()
    run_stages(config, until="verify")
    assert redone(lines()) == ["copy", "verify"]
    arrived = config.paths.dst_dataset / "train_mini/Aves/Pica pica/000.jpg"
    assert arrived.read_bytes() == (photos / "Aves/Pica pica/000.jpg").read_bytes()


def test_source_that_is_an_archive_is_unpacked_beside_it(make_config: MakeConfig, photos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tgz", "w:gz") as tar:
        tar.add(photos, "set")
    plain = make_config()
    config = make_config(f"paths.src_dataset={tmp_path / 'set.tgz'}", f"paths.output_dir={tmp_path / 'b'}")
    for one in (plain, config):
        run_stages(one, until="manifest")
    assert manifest(config).hash == manifest(plain).hash


def test_official_parts_of_a_format(make_config: MakeConfig, photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "flat"
    for i, path in enumerate(sorted((photos / "Insecta").rglob("*.jpg"))):
        target = root / ("test" if i % 3 == 0 else "train") / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    config = make_config(
        f"paths.src_dataset={root}",
        "dataset.format=flat",
        "global.included_classes=[Insecta]",
        "train_val_split.official=true",
        "train_val_split.dominant_threshold=0.9",
    )
    run_stages(config, until="manifest")
    rows = manifest(config).rows
    assert (rows["image_path"].str.startswith("test/") == (rows["split"] == "test")).all()
    assert rows["split"].value_counts().to_dict() == {"train": 13, "test": 8, "val": 3}


def test_species_with_few_photos_are_left_out_and_told_why(make_config: MakeConfig, lines: Lines) -> None:
    config = make_config("dataset.min_images=5", "train_val_split.dominant_threshold=1")
    run_stages(config, until="manifest")
    made = manifest(config)
    assert made.composition() == {"Aves": {"Ardea alba": 6}, "Insecta": {"Apis mellifera": 12, "Vanessa atalanta": 6}}
    rare = made.rows[made.rows["species"] == "Pica pica"]
    assert set(rare["split"]) == {""}
    assert set(rare["label_id"]) == {-1}
    assert set(rare["reason"]) == {"its species has fewer than 5 photos (dataset.min_images)"}
    assert any(line.startswith("split ") and line.endswith("; 10 left out") for line in lines())
    with pytest.raises(DataError, match="no species has 99 readable photos; lower dataset.min_images"):
        run_stages(make_config("dataset.min_images=99"))


def test_photos_of_one_observation_stay_together_and_licences_are_kept(make_config: MakeConfig, photos: Path) -> None:
    rows = ["path,group,species,observation,licence"]
    for path in sorted(path.relative_to(photos) for path in photos.rglob("*.jpg")):
        group, species, name = path.parts
        rows.append(f"{path},{group},{species},{species} {int(name[:3]) // 2},CC0")
    (photos / "photos.csv").write_text("\n".join(rows))
    config = make_config("dataset.format=table")
    run_stages(config, until="manifest")
    made = manifest(config).rows
    assert (made.groupby("observation")["split"].nunique() == 1).all()
    assert made["observation"].nunique() == 17
    assert set(made["licence"]) == {"CC0"}
    assert "holder" not in made


def test_photos_may_be_trusted_unseen(make_config: MakeConfig, lines: Lines) -> None:
    config = make_config("dataset.verify=false")
    (config.paths.src_dataset / "Aves/Pica pica/text.jpg").write_text("no photo")
    assert run_stages(config, until="manifest") == 0
    assert "verify    35 photos are trusted unseen (dataset.verify: false)" in lines()
    rows = manifest(config).rows
    assert (rows["sha256"] == "").all()
    assert rows["duplicate_group"].nunique() == 35
    assert set(rows["split"]) == {"train", "val", "test"}


def test_just_other_keeps_the_split_and_leaves_out_the_dominant(make_config: MakeConfig) -> None:
    run_stages(plain := make_config(), until="manifest")
    before = manifest(plain).rows.set_index("image_path")["split"]
    run_stages(config := make_config("labels.mode=just_other"), until="manifest")
    made = manifest(config)
    assert made.labels.names == ("Pica pica", "Harmonia axyridis", "Pieris rapae") == made.species().names
    used = made.rows[made.rows["split"] != ""].set_index("image_path")
    assert used["split"].equals(before[used.index])
    assert (made.labels.ids(used["species"].tolist()) == used["label_id"]).all()
    rest = made.rows[made.rows["split"] == ""]
    assert set(rest["reason"]) == {"its species is dominant, and labels.mode is just_other"}
    assert set(rest["label_id"]) == {-1}


def test_binary_labels_are_by_species(make_config: MakeConfig) -> None:
    run_stages(config := make_config("labels.mode=binary"), until="manifest")
    made = manifest(config)
    assert made.labels.names == ("Dominant", "Other")
    found = made.rows.groupby("species")["label_id"].first().to_dict()
    assert {name for name, i in found.items() if i == 0} == {"Ardea alba", "Apis mellifera", "Vanessa atalanta"}
    assert len(made.species()) == 6


def test_stored_photos_are_the_data_set(make_config: MakeConfig, lines: Lines) -> None:
    config = make_config("dataset.store.size=32")
    folder = config.paths.src_dataset / "Aves/Pica pica"
    Image.open(folder / "000.jpg").save(folder / "new.png")
    (folder / "bad.png").write_text("no photo")
    assert run_stages(config, until="manifest") == 1
    assert f"copy      1 copied, 35 stored in {config.paths.dst_dataset}" in lines()
    rows = manifest(config).rows.set_index("image_path")
    assert set(rows.loc[rows["ok"], "width"]) == {32}
    assert rows.loc["Aves/Pica pica/bad.png.jpg", "reason"] == "is no image in a format that Pillow knows"
    assert rows.loc["Aves/Pica pica/new.png.jpg", "ok"]
    assert run_stages(config, until="manifest") == 1
    assert redone(lines()) == []
    run_stages(make_config("dataset.store.size=48"), until="manifest")
    assert redone(lines())[:2] == ["copy", "verify"]


# bad input ----------------------------------------------------------------------------------------------------------


def test_bad_photos_are_rows_with_reasons_in_no_split(make_config: MakeConfig, lines: Lines) -> None:
    config = make_config("train_val_split.dominant_threshold=1")
    folder = config.paths.src_dataset / "Insecta" / "Apis mellifera"
    whole = (folder / "000.jpg").read_bytes()
    (folder / "000.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("this is no photo")
    only_bad = config.paths.src_dataset / "Insecta" / "Mantis religiosa"
    only_bad.mkdir()
    (only_bad / "empty.jpg").touch()
    assert run_stages(config, until="manifest") == 3
    rows = manifest(config).rows.set_index("image_path")
    bad = rows[~rows["ok"]]
    assert [Path(path).name for path in bad.index] == ["000.jpg", "text.jpg", "empty.jpg"]
    assert (bad["split"] == "").all()
    assert (bad["duplicate_group"] == -1).all()
    assert "truncated" in bad["reason"].iloc[0]
    assert (rows.loc[rows["ok"], "split"] != "").all()
    assert "Mantis religiosa" not in manifest(config).labels.names
    told = lines()
    assert "verify    33 photos are readable, 3 are not" in told
    assert any("bad photo Insecta/Apis mellifera/text.jpg: is no image" in line for line in told)
    assert run_stages(config, until="manifest") == 3  # up to date, and still some photos are bad


def test_folder_without_images_says_what_was_expected(make_config: MakeConfig) -> None:
    config = make_config()
    for path in config.paths.src_dataset.rglob("*.jpg"):
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(DataError, match=r"no photos below .*photos; expected <group>/<species>/<photo>\.jpg"):
        run_stages(config)


def test_other_files_are_counted_and_one_is_named(make_config: MakeConfig, lines: Lines) -> None:
    config = make_config()
    (config.paths.src_dataset / "Aves/Pica pica/notes.txt").touch()
    run_stages(config, until="analyse")
    assert "34 photos of 6 species in 2 groups; 1 other files ignored, e.g. Aves/Pica pica/notes.txt" in lines()[0]


def test_matched_species_without_photos_are_told(make_config: MakeConfig, region: Path) -> None:
    config = make_config(f"paths.web_crawl_output_json={region}")
    (config.paths.src_dataset / "Insecta/Mantis religiosa").mkdir()
    region.write_text('{"Insecta": ["Mantis religiosa"]}')
    with pytest.raises(DataError, match="the matched species have no photos below"):
        run_stages(config)


def test_nothing_readable_gives_an_example(make_config: MakeConfig) -> None:
    config = make_config()
    for path in config.paths.src_dataset.rglob("*.jpg"):
        path.write_text("no photo")
    with pytest.raises(
        DataError, match=r"none of the 34 photos below .* can be read, e.g. Aves/Ardea alba/000.jpg is no image"
    ):
        run_stages(config)


def test_threshold_below_the_first_share_tells_the_minimum(make_config: MakeConfig) -> None:
    with pytest.raises(
        DataError,
        match=r"0.55 is too low: Ardea alba alone holds 0.6000 of .*labels.scope: merged.* Minimum: 0.6000",
    ):
        run_stages(make_config("train_val_split.dominant_threshold=0.55"), until="label")


def test_species_called_other_is_refused(make_config: MakeConfig) -> None:
    config = make_config()
    (config.paths.src_dataset / "Insecta/Pieris rapae").rename(config.paths.src_dataset / "Insecta/Other")
    with pytest.raises(DataError, match="a species is called 'Other'.*rename its folder"):
        run_stages(config, until="label")


def test_species_in_two_groups_is_refused(make_config: MakeConfig) -> None:
    config = make_config()
    (config.paths.src_dataset / "Insecta/Pieris rapae").rename(config.paths.src_dataset / "Insecta/Pica pica")
    with pytest.raises(DataError, match=r"\['Pica pica'\] stand in more than one group"):
        run_stages(config, until="label")


@pytest.mark.parametrize("mode", ["copy", "hardlink", "symlink"])
def test_no_photo_vanishes_whatever_the_names(make_config: MakeConfig, tmp_path: Path, mode: str) -> None:
    species = [
        "Épeire diadème",
        unicodedata.normalize("NFD", "Mélitée"),
        "Aphis sp.",
        "a..b",
        "C: *?",
        "$a$ & b",
        "-rf",
        "x" * 200,
    ]
    root = write_photos(tmp_path / "odd", {"Insecta  élégants": dict.fromkeys(species, 3)})
    for folder in (root / "Insecta  élégants").iterdir():
        (folder / "000.jpg").rename(folder / ("é .. " + "y" * 200 + ".jpg"))
        (folder / "001.jpg").rename(folder / "a\tb\nc.jpg")
    config = make_config(
        f"paths.src_dataset={root}",
        f"dataset.copy_mode={mode}",
        "global.included_classes=['Insecta  élégants']",
        "train_val_split.dominant_threshold=1",
    )
    assert run_stages(config, until=None if mode == "copy" else "manifest") == 0
    rows = manifest(config).rows
    assert len(rows) == 3 * len(species)
    assert set(rows["species"]) == {unicodedata.normalize("NFC", name) for name in species}
    assert all((config.paths.dst_dataset / path).is_file() for path in rows["image_path"])


def test_list_with_slashes_and_dots_reaches_no_other_folder(
    make_config: MakeConfig, region: Path, tmp_path: Path
) -> None:
    write_photos(tmp_path / "secret", {"x": {"y": 1}})
    names = ["../../secret/x", "..", "/etc", "Pica pica/../../Aves/Ardea alba", "Pica pica"]
    region.write_text(json.dumps({"Aves": names}))
    config = make_config(f"paths.web_crawl_output_json={region}", "train_val_split.dominant_threshold=1")
    run_stages(config, until="manifest")
    assert manifest(config).composition() == {"Aves": {"Pica pica": 4}}
    made = {path.name for path in config.paths.dst_dataset.rglob("*") if path.is_dir()}
    assert made == {"Aves", "Pica pica"}


def test_folder_of_photos_called_species_mixes_nothing_up(
    make_config: MakeConfig, tmp_path: Path, lines: Lines
) -> None:
    (tmp_path / "photos").rename(tmp_path / "species")
    config = make_config(f"paths.src_dataset={tmp_path / 'species'}")
    for _ in range(2):
        lines()
        run_stages(config, until="manifest")
    assert redone(lines()) == []
