"""explain.py on the toy experiment: pictures, what is skipped, what is said of bad input."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy import RECIPE, Experiment, cache_colours, write_model, write_photo

from pipeline.dataset.manifest import experiment_manifest, learnt_manifest
from pipeline.errors import ModelError
from pipeline.evaluation.predict import predict_stages
from pipeline.explaining import run
from pipeline.explaining.figure import Explanation, overlay
from pipeline.explaining.photos import named, telling_photos
from pipeline.labels import OTHER, LabelSpace
from pipeline.models.checkpoint import ModelCard, save_model
from pipeline.models.registry import build

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["gradcam", "saliency"]


def call(arguments: list[str], experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> int:
    """explain.py in this process."""
    monkeypatch.setattr(sys, "argv", ["explain.py", "--config", str(experiment.yaml), *arguments])
    monkeypatch.syspath_prepend(str(ROOT))
    code = importlib.import_module("explain").main()
    assert isinstance(code, int)
    return code


def pictures(experiment: Experiment) -> list[str]:
    return sorted(path.name for path in (experiment.config().output / "explanations").glob("*.png"))


def test_a_picture_per_photo_once(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    photo = write_photo(tmp_path / "mine" / "a.png", (200, 40, 40))
    write_photo(tmp_path / "mine" / "b.jpg", (40, 40, 200))
    arguments = [str(photo), str(tmp_path / "mine" / "b.jpg"), "--methods", *QUICK]
    assert call(arguments, experiment, monkeypatch) == 0
    assert pictures(experiment) == ["mine_a.png", "mine_b.png"]
    told = lines()
    assert told[0].startswith("explain   mine_a.png (cache_0.5_0: ") and ", main: " in told[0]
    with Image.open(experiment.config().output / "explanations" / "mine_a.png") as picture:
        assert picture.width > picture.height > 400  # two rows of photo and two maps
    assert call(arguments, experiment, monkeypatch) == 0
    assert [line for line in lines() if "up to date" in line] == [
        "explain   mine_a.png up to date", "explain   mine_b.png up to date",
    ]  # fmt: skip
    assert call([*arguments, "--target", "Vanessa atalanta"], experiment, monkeypatch) == 0
    assert not [line for line in lines() if "up to date" in line]


def test_the_picture_is_the_same_again(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = write_photo(experiment.root / "mine" / "a.png", (200, 40, 40))
    folder = experiment.config().output / "explanations"
    found = []
    for _ in range(2):
        assert (
            call([str(photo), "--methods", "gradient_shap", "--set", "global.overwrite=true"], experiment, monkeypatch)
            == 0
        )
        found.append((folder / "mine_a.png").read_bytes())
    assert found[0] == found[1]


def test_binary_labels_are_the_truth_of_a_binary_model(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = ["--set", "labels.mode=binary", "--set", "route.stages=[main]"]
    config, names = experiment.config(*binary[1::2]), ("Apis mellifera", OTHER)  # the two labels of the toy's manifest
    manifest = learnt_manifest(config)
    write_model(config.models / "main" / "model.onnx", cache_colours(names[0]), data_hash=manifest.hash)
    card = ModelCard("main", "main", "test_resnet", {}, LabelSpace(names), RECIPE, manifest.hash, config.seed)
    save_model(config.models / "main", build("test_resnet", 2), card)
    predict_stages(config, manifest, "fp32")
    seen: list[tuple[str, Explanation]] = []

    def draw(path: Path, title: str, answers: list[Explanation]) -> None:
        seen.append((title, answers[0]))
        path.parent.mkdir(exist_ok=True)
        path.touch()

    monkeypatch.setattr(run, "draw", draw)
    assert call(["--methods", "saliency", *binary], experiment, monkeypatch) == 0
    other = manifest.part("test").set_index("species").loc[OTHER, "image_path"].iloc[0]
    assert call([str(manifest.root / other), "--methods", "saliency", *binary], experiment, monkeypatch) == 0
    assert {title for title, _ in seen} == {f"true species: {name}" for name in names}
    assert all(answer.right == (title == f"true species: {answer.label}") for title, answer in seen)


def test_without_a_photo_some_of_test_are_shown(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment.config()
    manifest = experiment_manifest(config)
    wanted = telling_photos(config, manifest)
    assert wanted == telling_photos(config, manifest)
    assert 1 <= len(wanted) <= 6
    assert set(wanted) <= set(manifest.part("test")["image_path"])
    assert call(["--methods", "saliency", "--models", "main"], experiment, monkeypatch) == 0
    assert pictures(experiment) == sorted(f"{path.replace('/', '_').removesuffix('.png')}.png" for path in wanted)


def test_photos_of_one_name_get_pictures_of_their_own() -> None:
    paths = [
        Path(name) for name in ("/a/x/1.jpg", "/b/x/1.jpg", "/b/x/1.png", "/root/Insecta/Apis/1.jpg", "/a/x/1_2.jpg")
    ]
    found = named(paths, Path("/root"))
    assert list(found) == ["x_1", "x_1_2", "x_1_3", "Insecta_Apis_1", "x_1_2_2"]
    assert list(found.values()) == paths


def test_heat_lies_over_the_photo_in_grey() -> None:
    pixels = np.full((4, 4, 3), 100, np.uint8)
    plane = np.zeros((4, 4), np.float32)
    plane[0, 0] = 1
    found = overlay(pixels, plane)
    assert found.shape == (4, 4, 3) and found.min() >= 0 and found.max() <= 1
    assert np.ptp(found[3, 3]) == 0 and np.ptp(found[0, 0]) > 0.1


# what goes wrong ----------------------------------------------------------------------------------------------------


def test_a_broken_photo_is_told_and_the_others_are_explained(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    folder = experiment.root / "mine"
    write_photo(folder / "b.png", (200, 40, 40))
    (folder / "a.jpg").write_text("no picture")
    assert call([str(folder), str(folder / "gone.jpg"), "--methods", "saliency"], experiment, monkeypatch) == 3
    assert pictures(experiment) == ["mine_b.png"]
    told = lines()
    assert f"explain   {folder / 'a.jpg'}: is no image in a format that Pillow knows" in told
    assert f"explain   {folder / 'gone.jpg'}: no such file" in told


def test_a_map_that_is_refused_is_told_and_drawn_as_text(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    def refuse(*_: object) -> None:
        raise ModelError("it does not fit")

    monkeypatch.setattr("pipeline.explaining.subject.relevance", refuse)
    photo = write_photo(experiment.root / "mine" / "a.png", (200, 40, 40))
    for _ in range(2):
        assert call([str(photo), "--methods", "saliency", "--models", "main"], experiment, monkeypatch) == 3
        told = lines()
        assert "explain   main: it does not fit" in told
    assert "explain   mine_a.png up to date" in told
    assert pictures(experiment) == ["mine_a.png"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--methods", "gradcan"], 2, "no method 'gradcan'; did you mean gradcam?"),
        (["--target", "Apis melifera"], 2, "know no species 'Apis melifera'; did you mean Apis mellifera?"),
        (["--target", "Pieris rapæ", "--models", "cache_0.5_0"], 2, "cache_0.5_0 know no species 'Pieris rapæ'"),
        (["--models", "mainn"], 1, "no model 'mainn' in "),
        (["--models", "xyz"], 1, "run train.py with the same --config first"),
        (["--models", "foreign"], 1, "is not a model card"),
        (["empty"], 1, "no photos to explain in "),
    ],
)
def test_wrong_input_is_one_sentence(
    arguments: list[str], code: int, said: str, experiment: Experiment, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    foreign = experiment.config().models / "foreign" / "model.json"
    foreign.parent.mkdir()
    foreign.write_text(json.dumps({"format": 1, "name": "somebody else's"}))
    (experiment.root / "empty").mkdir()
    monkeypatch.chdir(experiment.root)
    assert call(arguments, experiment, monkeypatch) == code
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_cache_is_asked_for_other_where_it_does_not_know_the_species(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    photo = write_photo(experiment.root / "mine" / "a.png", (200, 40, 40))
    asked: list[int] = []
    monkeypatch.setattr(
        "pipeline.explaining.subject.relevance",
        lambda model, pixels, target, *_: asked.append(target) or np.zeros(pixels.shape[:2], np.float32),
    )
    assert call([str(photo), "--target", "Pieris rapæ", "--methods", "saliency"], experiment, monkeypatch) == 0
    assert asked == [2, 2]  # "Other" of the cache; the third of main's species


def test_without_captum_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.delitem(sys.modules, "pipeline.explaining.methods")
    with pytest.raises(ModelError, match=r"pip install 'ommatidia\[explain\]'"):
        importlib.import_module("pipeline.explaining.methods")


@pytest.mark.parametrize(
    "words",
    ["--check 50 --groups 3", "--visualise 1 --check 2", "a.png --check 50", "a.png --visualise 3", "--target A --check 5",
     "a.png --target A --groups 3"],
)  # fmt: skip
def test_words_that_do_not_go_together(words: str, experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as end:
        call(words.split(), experiment, monkeypatch)
    assert end.value.code == 2


def test_the_check_takes_a_number_of_photos(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as end:
        call(["--check", "0"], experiment, monkeypatch)
    assert end.value.code == 2
