"""Every model sees every photo once, and what it said can be read back."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from toy import COLOURS, RECIPE, Experiment, write_model

import pipeline.evaluation.predict as module
from pipeline.dataset.manifest import read_manifest
from pipeline.edge.errors import BundleError
from pipeline.edge.model import Model
from pipeline.edge.recipe import decode
from pipeline.errors import DataError, LabelSpaceError, ModelError
from pipeline.evaluation.predict import (
    Predictions,
    check_same_photos,
    load_predictions,
    model_file,
    predict,
    predict_stages,
    predictions_file,
    save_predictions,
    stage_names,
)

from .tables import table


@pytest.fixture
def one(experiment: Experiment) -> Predictions:
    """Predictions of main on val and test, where one photo is broken and one is gone."""
    config = experiment.config()
    manifest = read_manifest(config.dataset_dir, config.paths.dst_dataset)
    rows = manifest.rows[manifest.rows["split"] != "train"].reset_index(drop=True)
    (manifest.root / rows["image_path"][3]).write_text("not a picture")
    (manifest.root / rows["image_path"][7]).unlink()
    return predict(Model(model_file(config, "main", "fp32")), manifest.root, rows, manifest.hash)


def test_a_row_per_photo_in_order_with_its_times(one: Predictions) -> None:
    good = (one.rows["reason"] == "").to_numpy()
    assert len(one.rows) == 45
    assert one.rows["image_path"].is_unique
    assert (one.rows.loc[good, ["decode_ms", "preprocess_ms", "infer_ms"]] > 0).all().all()
    assert np.isfinite(one.logits[good]).all()
    assert one.logits.dtype == np.float32
    names = np.array(one.labels.names)[one.logits[good].argmax(1)]
    assert (names == one.rows["species"][good]).mean() > 0.8


def test_an_unreadable_photo_is_a_row_with_its_reason_and_no_logits(one: Predictions) -> None:
    bad = one.rows[one.rows["reason"] != ""]
    assert bad.index.tolist() == [3, 7]
    assert bad["reason"].tolist() == ["is no image in a format that Pillow knows", "no such file"]
    assert np.isnan(one.logits[[3, 7]]).all()
    assert not one.part("val").rows["image_path"].isin(bad["image_path"]).any()


def test_parts_are_the_readable_photos_of_a_split(one: Predictions) -> None:
    val, test = one.part("val"), one.part("test")
    assert set(val.rows["split"]) == {"val"}
    assert set(test.rows["split"]) == {"test"}
    assert len(val.rows) + len(test.rows) == 43
    assert np.isfinite(test.logits).all()
    assert one.part("nothing").logits.shape == (0, 5)


def test_round_trip(one: Predictions, tmp_path: Path) -> None:
    path = tmp_path / "predictions" / "main.parquet"
    save_predictions(path, one)
    back = load_predictions(path)
    pd.testing.assert_frame_equal(back.rows, one.rows)
    np.testing.assert_array_equal(back.logits, one.logits)
    assert (back.card, back.data_hash, back.name) == (one.card, one.data_hash, "main")
    save_predictions(tmp_path / "again.parquet", back)
    assert (tmp_path / "again.parquet").read_bytes() == path.read_bytes()
    assert [file.name for file in path.parent.iterdir()] == ["main.parquet"]


def test_round_trip_of_no_photos(tmp_path: Path) -> None:
    save_predictions(tmp_path / "a.parquet", table([], np.zeros((0, 3)), ["a", "b", "c"]))
    assert load_predictions(tmp_path / "a.parquet").logits.shape == (0, 3)


def test_missing_predictions_say_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no predictions at .*; run eval.py with the same --config first"):
        load_predictions(tmp_path / "main.parquet")


def test_foreign_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("not a table")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    save_predictions(tmp_path / "bare.parquet", table(["a"], np.zeros((1, 2)), ["a", "b"]))
    pq.write_table(pq.read_table(tmp_path / "bare.parquet").drop_columns(["logits"]), tmp_path / "bare.parquet")
    for name in ("text", "other", "bare"):
        with pytest.raises(DataError, match=f"{name}.parquet is no table of predictions of this project"):
            load_predictions(tmp_path / f"{name}.parquet")


# the stages of an experiment ----------------------------------------------------------------------------------------


def stages(experiment: Experiment, *overrides: str) -> list[Predictions]:
    config = experiment.config(*overrides)
    return predict_stages(config, read_manifest(config.dataset_dir, config.paths.dst_dataset), "fp32")


def test_each_model_sees_each_photo_once(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []
    monkeypatch.setattr(module, "decode", lambda path, side: seen.append(path) or decode(path, side))
    first = stages(experiment)
    assert [found.name for found in first] == ["cache_0.5_0", "main"]
    assert set(Counter(seen).values()) == {2}
    assert len(set(seen)) == len(first[0].rows) == 45
    again = stages(experiment)
    assert len(seen) == 90
    np.testing.assert_array_equal(again[1].logits, first[1].logits)


def test_stored_predictions_are_up_to_date_until_the_model_changes(
    experiment: Experiment, lines: Callable[[], list[str]]
) -> None:
    stages(experiment)
    lines()
    stages(experiment)
    assert lines() == ["predict   cache_0.5_0 up to date", "predict   main up to date"]
    config = experiment.config()
    hash_ = read_manifest(config.dataset_dir, config.paths.dst_dataset).hash
    write_model(config.models / "main" / "model.onnx", COLOURS, sharpness=1.0, data_hash=hash_)
    stages(experiment)
    assert lines() == ["predict   cache_0.5_0 up to date", "predict   main: 45 photos"]


def test_a_model_of_another_manifest(experiment: Experiment) -> None:
    write_model(experiment.config().models / "main" / "model.onnx", COLOURS, data_hash="0123456789ab")
    with pytest.raises(ModelError, match=r"main/model.onnx was trained on manifest 0123456789ab, this one is"):
        stages(experiment)


def test_a_folder_that_was_renamed_or_copied(experiment: Experiment, lines: Callable[[], list[str]]) -> None:
    models = experiment.config().models
    shutil.copytree(models / "cache_0.5_0", models / "small")
    with pytest.raises(
        ModelError, match=r"small/model\.onnx is the model cache_0\.5_0, not small: the folder was renamed"
    ):
        stages(experiment, "route.stages=[small, main]")
    assert not predictions_file(experiment.config(), "small", "fp32").exists()
    stages(experiment)
    kept = predictions_file(experiment.config(), "cache_0.5_0", "fp32")  # as an earlier version has kept it
    for name in (kept.name, f".stamps/{kept.stem}.json"):
        source = kept.parent / name
        text = (
            source.read_bytes().replace(kept.stem.encode(), b"small")
            if source.suffix == ".json"
            else source.read_bytes()
        )
        (kept.parent / name.replace(kept.stem, "small")).write_bytes(text)
    lines()
    with pytest.raises(ModelError, match="is the model cache_0.5_0, not small"):
        stages(experiment, "route.stages=[small, main]")
    assert lines() == ["predict   small up to date"]


def test_a_model_that_was_not_exported(experiment: Experiment) -> None:
    with pytest.raises(
        ModelError, match=r"no exported model at .*cache_0.5_7.*; run train.py and quantize.py with the"
    ):
        stages(experiment, "cache.start_ranks=[0, 7]")


def test_names_follow_the_configuration(experiment: Experiment) -> None:
    config = experiment.config("cache.start_ranks=[0, 7]", "cache.threshold=0.25")
    assert stage_names(config) == ["cache_0.25_0", "cache_0.25_7", "main"]
    assert predictions_file(config, "main", "int8").name == "main.int8.parquet"
    assert predictions_file(config, "main", "fp32").name == "main.parquet"


def test_a_corrupt_export_is_one_sentence(experiment: Experiment) -> None:
    path = experiment.config().models / "main" / "model.onnx"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(BundleError, match=r"model.onnx (cannot be loaded|does not carry)"):
        stages(experiment)


# tables that do not belong together ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    wrong = table(["a", "b"], np.array([[1, 0], [value, 0]]), ["a", "b"])
    save_predictions(tmp_path / "main.parquet", wrong)
    with pytest.raises(DataError, match=r"logits that are not finite, first of 1.png; delete it and run eval.py again"):
        load_predictions(tmp_path / "main.parquet")
    rows = wrong.rows.assign(reason=["", "is no image"])  # of an unreadable photo they are none
    save_predictions(tmp_path / "main.parquet", replace(wrong, rows=rows))
    assert len(load_predictions(tmp_path / "main.parquet").part("val").rows) == 1


def test_tables_of_different_manifests() -> None:
    a, b = (table(["x", "y"], np.zeros((2, 2)), ["x", "y"], name) for name in ("cache", "main"))
    check_same_photos([a, b])
    with pytest.raises(LabelSpaceError, match=r"cache and main are of different manifests \(0123, 4567\); run eval"):
        check_same_photos([a, replace(b, data_hash="4567")])
    with pytest.raises(LabelSpaceError, match="different manifests"):
        check_same_photos([a, replace(b, rows=b.rows.iloc[::-1].reset_index(drop=True))])
    with pytest.raises(LabelSpaceError, match="different manifests"):
        check_same_photos([a, replace(b, rows=b.rows.iloc[:1])])


def test_tables_of_recipes_that_decode_differently() -> None:
    a, b = (table(["x"], np.zeros((1, 2)), ["x", "y"], name) for name in ("cache", "main"))
    other = {**b.card, "recipe": replace(RECIPE, decode_side=640).to_dict()}
    with pytest.raises(LabelSpaceError, match=r"cache and main disagree on decode_side \(320, 640\)"):
        check_same_photos([a, replace(b, card=other)])


def test_predictions_do_not_survive_a_kill_half_way(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: Path, predictions: Predictions) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "save_predictions", killed)
    with pytest.raises(KeyboardInterrupt):
        stages(experiment)
    monkeypatch.undo()
    assert not list((experiment.config().output / "predictions").glob("*.parquet"))
    assert len(stages(experiment)) == 2
    shutil.rmtree(experiment.config().output / "predictions")
    assert len(stages(experiment)) == 2
