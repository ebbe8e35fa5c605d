"""The page without a browser: every view, with good photos and bad ones."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("streamlit")
from PIL import Image
from streamlit.testing.v1 import AppTest
from toy import COLOURS, Experiment, write_photo

from pipeline.config import load_config
from pipeline.page.main import known_photos
from pipeline.page.start import PAGE
from pipeline.pages import markdown


def opened(experiment: Experiment, view: str, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The page, with this tab open."""
    monkeypatch.setattr(sys, "argv", [str(PAGE), json.dumps(experiment.config().dump())])
    page = AppTest.from_file(PAGE, default_timeout=60)
    page.session_state["view"] = view
    return sound(page.run())


def sound(page: AppTest) -> AppTest:
    assert not page.exception, page.exception
    return page


def everything(page: AppTest) -> str:
    """What a person reads."""
    kinds = (page.title, page.header, page.markdown, page.caption, page.error, page.info)
    html = [one.proto.body for one in page.get("html")]  # type: ignore[attr-defined]
    return "\n".join([*(str(one.value) for kind in kinds for one in kind), *html])


def png(tmp_path: Path, species: str) -> tuple[str, bytes, str]:
    return (f"{species}.png", write_photo(tmp_path / "photo.png", COLOURS[species]).read_bytes(), "image/png")


# one photo ----------------------------------------------------------------------------------------------------------


def test_an_upload_is_answered_and_explained(
    packed: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = opened(packed, "Upload", monkeypatch)
    assert "5 species, 2 stages" in everything(page)
    page.file_uploader[0].set_value([png(tmp_path, "Zygène d'été")])
    text = everything(sound(page.run()))
    assert "*Zygène d'été*" in text
    assert "Candidates of main" in text
    assert "<b>cache_0.5_0</b> takes it for none of its 2 species" in text
    assert "<b>main</b> answers <i>Zygène d&#39;été</i>: it always does" in text
    assert "in the training photos" in text
    assert "photo.png" not in text


@pytest.mark.parametrize(
    ("threshold", "said"),
    [
        (
            0.0,
            "answers <i>Apis mellifera</i>: it answers whatever it takes for one of its species, here with a confidence",
        ),
        (0.25, "answers <i>Apis mellifera</i>: its confidence of "),
        (0.999, "thinks of <i>Apis mellifera</i>, but its confidence of "),
    ],
)
def test_the_cache_tells_confidence_and_threshold(
    threshold: float, said: str, experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    description = experiment.root / "output" / "toy" / "bundle" / "cascade.json"
    packed = json.loads(description.read_text())
    packed["stages"][0]["rule"]["threshold"] = threshold
    description.write_text(json.dumps(packed))
    page = opened(experiment, "Upload", monkeypatch)
    page.file_uploader[0].set_value([png(tmp_path, "Apis mellifera")])
    text = everything(sound(page.run()))
    assert f"<b>cache_0.5_0</b> {said}" in text
    assert ("<b>main</b>" in text) == (threshold == 0.999)
    assert f"threshold, {100 * threshold:.1f}%" in text or not threshold


def test_where_it_looked_is_asked_for(packed: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = opened(packed, "Upload", monkeypatch)
    page.file_uploader[0].set_value([png(tmp_path, "Apis mellifera")])
    assert "Zeiler" not in everything(sound(page.run()))
    page.session_state["looked"] = True
    assert "occlusion, Zeiler and Fergus 2014" in everything(sound(page.run()))


def test_what_cannot_be_used_is_said_in_a_sentence(packed: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    page = opened(packed, "Upload", monkeypatch)
    page.file_uploader[0].set_value([("my_photo.jpg", b"not a picture", "image/jpeg")])
    [error] = sound(page.run()).error
    assert error.value == (
        r"my\_photo.jpg cannot be used: is no image in a format that Pillow knows. Try another photo."
    )


def test_names_are_shown_as_they_are(packed: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = opened(packed, "Upload", monkeypatch)
    name, content, kind = png(tmp_path, "Apis mellifera")
    page.file_uploader[0].set_value([("<b>*a*</b>.png", content, kind), (name, content, kind)])
    assert "<b>*a*" not in everything(sound(page.run()))


# many photos --------------------------------------------------------------------------------------------------------


def test_many_photos_are_a_table_and_one_of_them(
    packed: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = opened(packed, "Upload", monkeypatch)
    given = [png(tmp_path, species) for species in COLOURS]
    page.file_uploader[0].set_value([*given, ("broken.jpg", b"", "image/jpeg")])
    text = everything(sound(page.run()))
    assert "6 photos, 1 of them cannot be used" in text
    assert '<td colspan="4">is no image in a format that Pillow knows</td><td>broken.jpg</td>' in text
    assert "<td><i>Vanessa atalanta</i></td>" in text
    [closer] = page.selectbox
    closer.select_index(5)
    [error] = sound(page.run()).error
    assert error.value.startswith("broken.jpg cannot be used")


# the camera, the grid -----------------------------------------------------------------------------------------------


def test_the_camera_takes_a_photo(packed: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = opened(packed, "Camera", monkeypatch)
    stored = io.BytesIO()
    Image.new("RGB", (64, 48), COLOURS["Harmonia axyridis"]).save(stored, "JPEG")
    page.camera_input[0].set_value(("photo.jpg", stored.getvalue(), "image/jpeg"))
    assert "*Harmonia axyridis*" in everything(sound(page.run()))


def test_a_test_photo_is_picked_with_its_true_species(packed: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    page = opened(packed, "Test photos", monkeypatch)
    assert page.selectbox[0].options == ["all species", *sorted(COLOURS)]
    first = [button.label for button in page.button]
    assert len(first) == 13
    page.button[-1].click()
    assert [button.label for button in sound(page.run()).button] != first
    page.selectbox[0].select("Pieris rapæ")
    assert {button.label for button in sound(page.run()).button} == {"*Pieris rapæ*", "Other photos"}
    page.button(key="pick1").click()
    text = everything(sound(page.run()))
    assert "Its true species is *Pieris rapæ*: the answer is **" in text
    assert "Which stage answered, and why" in text


def test_a_picked_photo_that_is_gone_makes_room_for_another(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = opened(experiment, "Test photos", monkeypatch)
    page.button(key="pick1").click()
    photo = sound(page.run()).session_state["picked"].path
    photo.unlink()
    sound(page.run())
    assert [one.value for one in page.info] == [markdown(f"{photo.name} is no longer on this machine.")]
    assert not page.error
    page.button(key="pick2").click()
    assert "Its true species is" in everything(sound(page.run()))
    assert not page.info


def test_the_true_species_of_binary_labels_is_what_a_binary_cascade_answers(packed: Experiment) -> None:
    manifest = known_photos(packed.config("labels.mode=binary"), "binary")
    assert manifest is not None
    assert set(manifest.part("test")["species"]) == {"Apis mellifera", "Other"}  # the two labels of the toy's manifest


def test_without_the_photos_there_is_no_grid(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(experiment.root / "regional")
    page = opened(experiment, "Upload", monkeypatch)
    assert [tab.label for tab in page.tabs] == ["Upload", "Camera", "Thresholds"]


# thresholds ---------------------------------------------------------------------------------------------------------


def test_sliders_move_the_figures_and_go_back(packed: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    page = opened(packed, "Thresholds", monkeypatch)
    assert "On 15 val photos" in everything(page)
    measured = {metric.label: metric.value for metric in page.metric}
    [slider] = page.slider
    before = slider.value
    slider.set_value(1.0)
    sound(page.run())
    assert {metric.label: metric.value for metric in page.metric}["Communication rate"] == "100.0%"
    page.button[0].click()
    sound(page.run())
    assert page.slider[0].value == before
    assert {metric.label: metric.value for metric in page.metric} == measured


def test_test_photos_come_with_a_warning(packed: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    page = opened(packed, "Thresholds", monkeypatch)
    [split] = page.radio
    assert split.value == "val"
    assert "do not choose here" in split.options[1]
    split.set_value("test")
    assert "On 30 test photos" in everything(sound(page.run()))


def test_without_predictions_it_says_what_to_run(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(experiment.root / "output" / "toy" / "predictions")
    [error] = opened(experiment, "Thresholds", monkeypatch).error
    assert "run eval.py with the same" in error.value


# what is missing ----------------------------------------------------------------------------------------------------


def test_a_bundle_that_went_away_is_said(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(experiment.root / "output" / "toy" / "bundle")
    [error] = opened(experiment, "Upload", monkeypatch).error
    assert "run deploy.py with the same" in error.value


def test_the_configuration_travels_as_it_is(packed: Experiment) -> None:
    config = packed.config("route.threshold=0.25")
    assert type(config).model_validate(json.loads(json.dumps(config.dump()))) == config
    assert load_config(packed.yaml) != config
