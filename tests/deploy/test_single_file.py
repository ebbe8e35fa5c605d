"""One ONNX file gives the answers of the bundle's Python, and runs a later stage only when it is asked."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from toy import COLOURS, RECIPE, cache_colours, write_cascade, write_model, write_photo

from pipeline.deploy.single_file import input_names, write_single_file
from pipeline.edge.cascade import load_cascade
from pipeline.edge.recipe import decode, preprocess
from pipeline.edge.rule import Rule
from pipeline.files import sha256

FIRST, SECOND = cache_colours("Apis mellifera", "Vanessa atalanta"), cache_colours("Harmonia axyridis")
WEIGHTS = (4.0, 3.0, -0.5, -2.0, -1.0)
RULES = {
    "confidence": [Rule(0.45), Rule(0.5)],
    "margin": [Rule(0.2, "margin"), Rule(0.3, "margin")],
    "calibrated": [Rule(0.4, temperature=1.7), Rule(0.5, temperature=0.6)],
    "deferral": [Rule(0.5, "deferral", 1.3, WEIGHTS), Rule(0.55, "deferral", 0.8, WEIGHTS)],
}


def with_rules(folder: Path, rules: list[Rule]) -> None:
    path = folder / "cascade.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    for stage, rule in zip(description["stages"], rules, strict=False):
        stage["rule"] = asdict(rule)
    path.write_text(json.dumps(description), encoding="utf-8")


def both(folder: Path, target: Path, photos: list[Path]) -> tuple[list[Any], list[Any]]:
    """(species, stage, score) of each photo from the bundle's Python and from the one file."""
    cascade, session = load_cascade(folder), ort.InferenceSession(write_single_file(folder, target))
    about = json.loads(session.get_modelmeta().custom_metadata_map["ommatidia"])
    inputs, expected, found = input_names(cascade), [], []
    recipes = {inputs[stage.recipe.geometry]: stage.recipe for stage in cascade.stages}
    for path in photos:
        answer = cascade.classify(path, 1)
        expected.append((answer.species, answer.stage, pytest.approx(answer.score, abs=1e-6)))
        photo = decode(path, cascade.decode_side)
        feed = {name: preprocess(photo, recipe)[None] for name, recipe in recipes.items()}
        label, score, stage = (one.item() for one in session.run(["answer", "score", "stage"], feed))
        found.append((about["labels"][label], about["stages"][stage], score))
    return expected, found


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(3)
    colours = [np.array(colour) * 0.6 + rng.uniform(0, 100, 3) for colour in COLOURS.values() for _ in range(8)]
    return [write_photo(folder / f"{i}.png", colour) for i, colour in enumerate(colours)]


@pytest.mark.parametrize("kind", list(RULES))
@pytest.mark.parametrize("main", [True, False])
def test_the_same_answers(tmp_path: Path, photos: list[Path], kind: str, main: bool) -> None:
    stages = [("first", FIRST, 0.0), ("second", SECOND, 0.0), ("main", COLOURS, 0.0)]
    folder = write_cascade(tmp_path / "bundle", stages if main else stages[:2])
    with_rules(folder, RULES[kind])
    expected, found = both(folder, tmp_path / "cascade.onnx", photos)
    assert found == expected
    assert len({stage for _, stage, _ in found}) == (3 if main else 2)
    assert any(species == "unknown" for species, _, _ in found) != main


def test_stages_of_different_sizes(tmp_path: Path, photos: list[Path]) -> None:
    folder = write_cascade(tmp_path / "bundle", [("first", FIRST, 0.5), ("main", COLOURS, 0.0)])
    recipe = replace(RECIPE, size=48, crop=0.5)
    path = write_model(folder / "main.onnx", COLOURS, recipe=recipe)
    description = json.loads((folder / "cascade.json").read_text(encoding="utf-8"))
    description["stages"][1] |= {"sha256": sha256(path), "recipe": recipe.to_dict()}
    (folder / "cascade.json").write_text(json.dumps(description), encoding="utf-8")
    assert list(input_names(load_cascade(folder)).values()) == ["photo_32", "photo_48"]
    expected, found = both(folder, tmp_path / "cascade.onnx", photos)
    assert found == expected


def test_main_runs_only_when_it_is_asked(tmp_path: Path) -> None:
    folder = write_cascade(tmp_path / "bundle", [("first", FIRST, 0.5), ("main", COLOURS, 0.0)])
    options = ort.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    session = ort.InferenceSession(write_single_file(folder, tmp_path / "cascade.onnx"), options)
    for species in ("Apis mellifera", "Pieris rapæ"):
        photo = np.full((1, 32, 32, 3), COLOURS[species], np.uint8)
        assert session.run(["stage"], {"photo_32": photo})[0].item() == (species != "Apis mellifera")
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran = [
        event["args"]["op_name"] for event in events if event["cat"] == "Node" and event["name"].endswith("kernel_time")
    ]
    assert ran.count("If") == 2
    assert ran.count("Gemm") == 3  # the cache for both photos, main for the second one


def test_the_same_bundle_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = write_cascade(tmp_path / "bundle", [("first", FIRST, 0.5), ("main", COLOURS, 0.0)])
    one, two = (write_single_file(folder, tmp_path / name).read_bytes() for name in ("a.onnx", "b.onnx"))
    assert one == two
