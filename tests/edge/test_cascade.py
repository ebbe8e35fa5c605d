"""The cascade: the first stage that is sure of a species answers, and what is packed is what runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from toy import COLOURS, GREY, RECIPE, cache_colours, write_cascade, write_model, write_photo

import pipeline.edge.cascade as module
from pipeline.edge.cascade import FORMAT_VERSION, UNKNOWN, Cascade, Stage, load_cascade
from pipeline.edge.errors import BundleError
from pipeline.edge.model import Model
from pipeline.edge.rule import Rule

CACHE = cache_colours("Apis mellifera", "Vanessa atalanta")
LATER = cache_colours("Harmonia axyridis")
APIS, HARMONIA, PIERIS = COLOURS["Apis mellifera"], COLOURS["Harmonia axyridis"], COLOURS["Pieris rapæ"]
BETWEEN = (225, 85, 25)  # between Apis and Vanessa: a species, but which?


# routing ------------------------------------------------------------------------------------------------------------

Build = Callable[..., Cascade]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Cascade of (name, colours, threshold), in memory."""

    def make(*stages: tuple[str, dict[str, Any], float], **settings: Any) -> Cascade:
        models = [
            Model(write_model(tmp_path / f"{name}.onnx", colours, name=name, **settings)) for name, colours, _ in stages
        ]
        return Cascade([Stage.of(s[0], model, Rule(s[2])) for s, model in zip(stages, models, strict=True)])

    return make


def test_the_cache_answers_and_main_is_not_run(build: Build, tmp_path: Path) -> None:
    answer = build(("cache", CACHE, 0.5), ("main", COLOURS, 0.0)).classify(write_photo(tmp_path / "a.png", APIS))
    assert (answer.status, answer.failures) == ("ok", [])
    assert (answer.species, answer.stage) == ("Apis mellifera", "cache")
    assert list(answer.infer_ms) == ["cache"]
    assert answer.decode_ms > 0
    assert answer.preprocess_ms > 0
    assert answer.infer_ms["cache"] > 0


def test_other_goes_on_to_main(build: Build, tmp_path: Path) -> None:
    answer = build(("cache", CACHE, 0.0), ("main", COLOURS, 0.0)).classify(write_photo(tmp_path / "a.png", PIERIS))
    assert (answer.species, answer.stage) == ("Pieris rapæ", "main")
    assert list(answer.infer_ms) == ["cache", "main"]


def test_low_confidence_goes_on_to_main(build: Build, tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "a.png", BETWEEN)
    unsure = build(("cache", CACHE, 0.0), ("main", COLOURS, 0.0)).classify(photo)
    assert unsure.stage == "cache"
    for threshold, stage in ((unsure.score, "cache"), (np.nextafter(unsure.score, 1), "main")):
        answer = build(("cache", CACHE, threshold), ("main", COLOURS, 0.0)).classify(photo)
        assert answer.stage == stage


def test_main_may_bring_a_dominant_species_back(build: Build, tmp_path: Path) -> None:
    answer = build(("cache", CACHE, 1.0), ("main", COLOURS, 0.0)).classify(write_photo(tmp_path / "a.png", APIS))
    assert (answer.species, answer.stage) == ("Apis mellifera", "main")


def test_several_caches_are_asked_in_order(build: Build, tmp_path: Path) -> None:
    cascade = build(("first", CACHE, 0.5), ("second", LATER, 0.5), ("main", COLOURS, 0.0))
    asked = {colour: cascade.classify(write_photo(tmp_path / "a.png", colour)) for colour in (APIS, HARMONIA, PIERIS)}
    assert [(a.species, list(a.infer_ms)) for a in asked.values()] == [
        ("Apis mellifera", ["first"]),
        ("Harmonia axyridis", ["first", "second"]),
        ("Pieris rapæ", ["first", "second", "main"]),
    ]


def test_without_main_what_no_cache_knows_is_unknown(build: Build, tmp_path: Path) -> None:
    cascade = build(("first", CACHE, 0.5), ("second", LATER, 0.5))
    answer = cascade.classify(write_photo(tmp_path / "a.png", PIERIS))
    assert (answer.species, answer.stage, answer.status) == (UNKNOWN, "second", "ok")
    assert answer.topk[0] == ("Other", answer.score)


def test_a_last_stage_below_its_threshold_is_unknown(build: Build, tmp_path: Path) -> None:
    answer = build(("main", COLOURS, 1.0)).classify(write_photo(tmp_path / "a.png", GREY))
    assert answer.species == UNKNOWN


@pytest.mark.parametrize(("topk", "length"), [(1, 1), (3, 3), (99, 5)])
def test_topk(build: Build, tmp_path: Path, topk: int, length: int) -> None:
    answer = build(("main", COLOURS, 0.0)).classify(write_photo(tmp_path / "a.png", APIS), topk)
    assert len(answer.topk) == length
    assert answer.topk[0] == ("Apis mellifera", answer.score)
    scores = [score for _, score in answer.topk]
    assert scores == sorted(scores, reverse=True)
    if length == len(COLOURS):
        assert sum(scores) == pytest.approx(1)


def test_an_unreadable_photo_is_an_answer_with_its_reason(build: Build, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("not a picture")
    answer = build(("main", COLOURS, 0.0)).classify(tmp_path / "a.jpg")
    assert (answer.status, answer.species, answer.stage) == ("failed", "", "")
    assert answer.failures == ["is no image in a format that Pillow knows"]
    assert answer.infer_ms == {}


def test_decoded_once_and_prepared_once_per_recipe(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    decode, preprocess = module.decode, module.preprocess

    def counted_preprocess(image: Any, recipe: Any) -> NDArray[np.uint8]:
        calls.append(recipe.size)
        return preprocess(image, recipe)

    monkeypatch.setattr(module, "decode", lambda *given: calls.append("decode") or decode(*given))
    monkeypatch.setattr(module, "preprocess", counted_preprocess)
    photo = write_photo(tmp_path / "a.png", PIERIS)
    build(("first", CACHE, 0.5), ("second", LATER, 0.5), ("main", COLOURS, 0.0)).classify(photo)
    assert calls == ["decode", 32]
    calls.clear()
    large = Model(write_model(tmp_path / "large.onnx", COLOURS, recipe=replace(RECIPE, size=64)))
    small = Model(write_model(tmp_path / "small.onnx", CACHE))
    Cascade([Stage.of("cache", small, Rule(0.5)), Stage.of("main", large, Rule())]).classify(photo)
    assert calls == ["decode", 32, 64]


# stages that do not fit together ------------------------------------------------------------------------------------


def test_no_stage() -> None:
    with pytest.raises(BundleError, match="at least one stage"):
        Cascade([])


def test_main_that_lacks_a_species_of_a_cache(build: Build) -> None:
    fewer = {name: colour for name, colour in COLOURS.items() if name != "Vanessa atalanta"}
    with pytest.raises(BundleError, match="labels of cache and main disagree: main lacks 'Vanessa atalanta'"):
        build(("cache", CACHE, 0.5), ("main", fewer, 0.0))


def test_a_cache_without_other_would_answer_all(build: Build) -> None:
    with pytest.raises(BundleError, match="cache is not the last stage but has no label 'Other'"):
        build(("cache", {"Apis mellifera": APIS}, 0.5), ("main", COLOURS, 0.0))


def test_recipes_that_decode_differently(tmp_path: Path) -> None:
    one = Model(write_model(tmp_path / "a.onnx", CACHE))
    other = Model(write_model(tmp_path / "b.onnx", COLOURS, recipe=replace(RECIPE, decode_side=640)))
    with pytest.raises(BundleError, match=r"disagree on decode_side \(cache 320, main 640\)"):
        Cascade([Stage.of("cache", one, Rule(0.5)), Stage.of("main", other, Rule())])


# reading a bundle ---------------------------------------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    return write_cascade(tmp_path / "bundle", [("cache", CACHE, 0.5), ("main", COLOURS, 0.0)])


def edit(folder: Path, **values: Any) -> None:
    """Change the first stage of cascade.json."""
    path = folder / "cascade.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    stage = description["stages"][0]
    stage["rule"] |= values.pop("rule", {})
    stage |= values
    path.write_text(json.dumps(description), encoding="utf-8")


def test_a_bundle_loads(packed: Path, tmp_path: Path) -> None:
    cascade = load_cascade(packed, threads=2)
    assert [(stage.name, stage.rule) for stage in cascade.stages] == [("cache", Rule(0.5)), ("main", Rule())]
    assert cascade.classify(write_photo(tmp_path / "a.png", PIERIS)).species == "Pieris rapæ"


def test_a_changed_model_file(packed: Path) -> None:
    write_model(packed / "main.onnx", COLOURS, sharpness=5)
    with pytest.raises(BundleError, match="main.onnx is not the file that was packed; copy the bundle"):
        load_cascade(packed)


def test_a_missing_model_file(packed: Path) -> None:
    (packed / "cache.onnx").unlink()
    with pytest.raises(BundleError, match="cache.onnx is missing"):
        load_cascade(packed)


def test_a_model_is_read_from_the_bundle_only(packed: Path, tmp_path: Path) -> None:
    (packed / "cache.onnx").rename(tmp_path / "cache.onnx")
    edit(packed, file="../cache.onnx")
    with pytest.raises(BundleError, match=r"bundle/cache.onnx is missing"):
        load_cascade(packed)


@pytest.mark.parametrize("threshold", [-0.01, 1.01, float("nan")])
def test_a_threshold_that_is_no_probability(packed: Path, threshold: float) -> None:
    edit(packed, rule={"threshold": threshold})
    with pytest.raises(BundleError, match=r"threshold of cache must lie in \[0, 1\]"):
        load_cascade(packed)


@pytest.mark.parametrize(
    "rule", [{"kind": "luck"}, {"temperature": 0}, {"weights": [1.0]}, {"kind": "deferral"}, {"more": 1}]
)
def test_a_rule_that_this_version_does_not_know(packed: Path, rule: dict[str, Any]) -> None:
    edit(packed, rule=rule)
    with pytest.raises(BundleError, match="is not whole"):
        load_cascade(packed)


def test_a_stage_without_its_files_hash(packed: Path) -> None:
    path = packed / "cascade.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    del description["stages"][0]["sha256"]
    path.write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(BundleError, match=r"is not whole \(KeyError\('sha256'\)\); copy the bundle again"):
        load_cascade(packed)


def test_a_description_of_another_label_space_or_recipe(packed: Path) -> None:
    edit(packed, labels=["Vanessa atalanta", "Apis mellifera", "Other"])
    with pytest.raises(BundleError, match="cascade.json and cache.onnx disagree on the labels; copy the bundle"):
        load_cascade(packed)
    edit(packed, labels=list(CACHE), recipe=replace(RECIPE, crop=0.5).to_dict())
    with pytest.raises(BundleError, match="cascade.json and cache.onnx disagree on the recipe; copy the bundle"):
        load_cascade(packed)


@pytest.mark.parametrize("version", [0, 1, None, "2"])
def test_another_format_version(packed: Path, version: Any) -> None:
    (packed / "cascade.json").write_text(json.dumps({"format_version": version, "stages": []}))
    with pytest.raises(BundleError, match=f"has format {version}; this version reads {FORMAT_VERSION}"):
        load_cascade(packed)


def test_lazy_loads_a_model_when_it_is_first_asked(packed: Path, tmp_path: Path) -> None:
    cascade = load_cascade(packed, lazy=True)
    write_model(packed / "main.onnx", COLOURS, sharpness=5)
    assert cascade.classify(write_photo(tmp_path / "a.png", APIS)).stage == "cache"
    with pytest.raises(BundleError, match="main.onnx is not the file that was packed"):
        cascade.classify(write_photo(tmp_path / "b.png", PIERIS))


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no cascade.json in .*; this is not a bundle"):
        load_cascade(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not whole"),
        ("[]", "is not whole"),
        ('{"format_version": 2}', "is not whole"),
        ('{"format_version": 2, "stages": 3}', "is not whole"),
        ('{"format_version": 2, "stages": [{}]}', "is not whole"),
        ('{"format_version": 2, "stages": [{"file": 1}]}', "is not whole"),
        ('{"format_version": 2, "stages": []}', "at least one stage"),
    ],
)
def test_a_broken_description(packed: Path, text: str, message: str) -> None:
    (packed / "cascade.json").write_text(text)
    with pytest.raises(BundleError, match=message):
        load_cascade(packed)


def test_a_threshold_that_is_no_number(packed: Path) -> None:
    edit(packed, rule={"threshold": "0.5"})
    with pytest.raises(BundleError, match="is not whole"):
        load_cascade(packed)


def test_edited_labels(packed: Path) -> None:
    changed = write_model(
        packed / "main.onnx", COLOURS, edit=lambda data: {**data, "labels": ["Bombus", *data["labels"][1:]]}
    )
    description = json.loads((packed / "cascade.json").read_text(encoding="utf-8"))
    description["stages"][1]["sha256"] = module.sha256(changed)
    (packed / "cascade.json").write_text(json.dumps(description))
    with pytest.raises(BundleError, match="the file's metadata were edited"):
        load_cascade(packed)
