"""The cascade over stored predictions is the cascade on the device; thresholds are chosen on what they are given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy import COLOURS, RECIPE, cache_colours, write_model, write_photo

from pipeline.edge.cascade import Cascade, Stage
from pipeline.edge.model import Model
from pipeline.edge.rule import Rule, probabilities
from pipeline.errors import LabelSpaceError
from pipeline.evaluation.predict import Predictions, predict
from pipeline.evaluation.routing import cascade_figures, route, species_space, truth_ids
from pipeline.labels import LabelSpace

from .tables import table

MODELS = {
    "first": cache_colours("Apis mellifera", "Vanessa atalanta"),
    "second": cache_colours("Harmonia axyridis"),
    "main": COLOURS,
}


# stored predictions and the device ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Model], list[Predictions]]:
    """80 photos of any colour, three models, and what each says of each."""
    root = tmp_path_factory.mktemp("parity")
    rng = np.random.default_rng(8)
    names = list(COLOURS)
    rows = pd.DataFrame({"image_path": [f"{i:02}.png" for i in range(80)], "species": rng.choice(names, 80)})
    for row in rows.itertuples():
        write_photo(root / str(row.image_path), np.array(COLOURS[str(row.species)]) * 0.5 + rng.uniform(0, 128, 3))
    models = [Model(write_model(root / f"{name}.onnx", colours, name=name)) for name, colours in MODELS.items()]
    return root, models, [predict(model, root, rows.assign(split="val"), "0123") for model in models]


def own_thresholds(tables: list[Predictions]) -> list[float]:
    """Probabilities that occur, so that "at least" counts."""
    return [float(np.sort(probabilities(t.logits).max(axis=1))[40]) for t in tables]


WEIGHTS = (4.0, 3.0, -0.5, -2.0, -1.0)
RULES = {
    "open": [Rule(), Rule(), Rule()],
    "closed": [Rule(1), Rule(1), Rule()],
    "closed to the end": [Rule(1), Rule(1), Rule(1)],
    "between": [Rule(0.5), Rule(0.7), Rule()],
    "margin": [Rule(0.4, "margin"), Rule(0.3, "margin"), Rule()],
    "calibrated": [Rule(0.5, temperature=1.6), Rule(0.6, temperature=0.7), Rule(0.3)],
    "deferral": [Rule(0.6, "deferral", 1.2, WEIGHTS), Rule(0.7, "deferral", 0.9, WEIGHTS), Rule()],
    "own": None,
}


@pytest.mark.parametrize("kind", list(RULES))
@pytest.mark.parametrize("used", [[0, 1, 2], [0, 2], [2], [0, 1], [1, 0], [0]])
def test_stored_predictions_are_routed_as_the_device_does(
    stages: tuple[Path, list[Model], list[Predictions]], used: list[int], kind: str
) -> None:
    root, models, tables = stages
    rules = RULES[kind] or [Rule(threshold) for threshold in own_thresholds(tables)]
    routed = route([tables[i] for i in used], [rules[i] for i in used])
    cascade = Cascade([Stage.of(str(i), models[i], rules[i]) for i in used])
    device = [cascade.classify(root / path) for path in tables[0].rows["image_path"]]
    names = [*routed.labels.names, "unknown"]
    assert [names[i] for i in routed.answers] == [answer.species for answer in device]
    assert [str(used[k]) for k in routed.stage] == [answer.stage for answer in device]
    asked = [len(answer.infer_ms) for answer in device]
    assert (routed.stage + 1).tolist() == asked
    main = [answer.stage == "2" if 2 in used else answer.species == "unknown" for answer in device]
    assert routed.sent_on.tolist() == main
    assert sum(routed.answered(k) for k in range(len(used))).tolist() == [a.species != "unknown" for a in device]


def test_a_stage_that_is_off_is_not_asked(stages: tuple[Path, list[Model], list[Predictions]]) -> None:
    _, _, tables = stages
    without = route(tables[1:], [Rule(0.6), Rule()])
    off = route(tables, [None, Rule(0.6), Rule()])
    assert off.answers.tolist() == without.answers.tolist()
    assert off.stage.tolist() == (without.stage + 1).tolist()
    assert not off.asked(0).any()
    tables[0].rows["infer_ms"] = 1e6
    assert cascade_figures(tables, off)["ms_per_image"] < 1e4


def test_a_threshold_of_one_sends_all_on_and_zero_all_but_other(
    stages: tuple[Path, list[Model], list[Predictions]],
) -> None:
    _, _, (first, _, main) = stages
    assert route([first, main], [Rule(1), Rule()]).sent_on.all()
    open_ = route([first, main], [Rule(), Rule()]).sent_on
    assert open_.tolist() == (first.logits.argmax(1) == 2).tolist()
    assert 0 < open_.sum() < 80


def test_without_main_what_no_cache_answers_is_sent_on_and_unknown_and_no_wrong_answer_of_the_last() -> None:
    cache = table(["a", "b", "b", "b"], [[9, 0], [0, 9], [0, 9], [0, 9]], ["a", "Other"], "cache")
    routed = route([cache], [Rule()])
    figures = cascade_figures([cache], routed)
    assert routed.answers.tolist() == [0, -1, -1, -1]
    assert (figures["communication_rate"], figures["saving_rate"], figures["unknown_rate"]) == (0.75, 0.25, 0.75)
    assert figures["ms_per_image_main_alone"] is None
    [stage] = figures["stages"]
    assert (stage["asked"], stage["photos"], stage["hit_rate"], stage["accuracy"]) == (4, 1, 0.25, 1)


def test_an_answer_without_numbers_is_no_species() -> None:
    a, main = ("a", "Other"), ("a", "b")
    nothing = np.full((1, 2), np.nan)
    routed = route([table(["a"], nothing, a, "cache"), table(["a"], nothing, main)], [Rule(), Rule()])
    assert routed.answers.tolist() == [-1]


def test_labels_are_joined_by_name() -> None:
    cache = table(["b", "z"], [[9, 0, 0], [0, 0, 9]], ["b", "a", "Other"], "cache")
    main = table(["b", "z"], [[0, 0, 0], [0, 9, 0]], ["a", "z", "b"])
    routed = route([cache, main], [Rule(0.5), Rule()])
    assert routed.labels.names == ("a", "z", "b")
    assert [routed.labels.names[i] for i in routed.answers] == ["b", "z"]
    assert routed.stage.tolist() == [0, 1]


def test_species_space_and_truth() -> None:
    tables = [table([], np.zeros((0, 3)), ["c", "a", "Other"]), table([], np.zeros((0, 2)), ["a", "b"])]
    space = species_space(tables)
    assert space == LabelSpace(("a", "b", "c"))
    assert truth_ids(["c", "nobody", "a"], space).tolist() == [2, -2, 0]


def test_tables_of_different_photos_are_not_routed() -> None:
    one, other = (table(["a"], np.zeros((1, 2)), ["a", "b"], name) for name in ("cache", "main"))
    with pytest.raises(LabelSpaceError, match="different manifests"):
        route([one, replace(other, data_hash="4567")], [Rule(), Rule()])


# figures ------------------------------------------------------------------------------------------------------------


def test_figures_by_hand() -> None:
    species = ["a", "a", "b", "b"]
    cache = table(species, [[9, 0], [0, 9], [9, 0], [0, 9]], ["a", "Other"], "cache")
    main = table(species, [[9, 0], [9, 0], [9, 0], [9, 0]], ["a", "b"])
    main.rows["infer_ms"] = 20.0
    figures = cascade_figures([cache, main], route([cache, main], [Rule(0.5), Rule()]))
    assert figures["stages"] == [
        {"name": "cache", "asked": 4, "photos": 2, "hit_rate": 0.5, "accuracy": 0.5, "ms": 2 + 1 + 5},
        {"name": "main", "asked": 2, "photos": 2, "hit_rate": 0.5, "accuracy": 0.5, "ms": 2 + 1 + 5 + 20},
    ]
    assert (figures["communication_rate"], figures["saving_rate"]) == (0.5, 0.5)
    assert figures["ms_per_image"] == 2 + 1 + 5 + 0.5 * 20  # decode and prepare once, cache always, main half the time
    assert figures["ms_per_image_main_alone"] == 2 + 1 + 20


def test_another_recipe_is_prepared_again_where_it_is_asked() -> None:
    species = ["a", "b"]
    cache = table(species, [[9, 0], [0, 9]], ["a", "Other"], "cache")
    recipe = replace(RECIPE, size=64, mean=(0.4, 0.4, 0.4))
    main = table(species, [[9, 0], [0, 9]], ["a", "b"])
    main = replace(main, card={**main.card, "recipe": recipe.to_dict(), "recipe_hash": recipe.hash})
    figures = cascade_figures([cache, main], route([cache, main], [Rule(0.5), Rule()]))
    assert figures["ms_per_image"] == 2 + (1 + 5) + 0.5 * (1 + 5)


def test_a_stage_that_answers_nothing_has_no_accuracy() -> None:
    cache = table(["a"], [[0, 9]], ["a", "Other"], "cache")
    main = table(["a"], [[9, 0]], ["a", "b"])
    figures = cascade_figures([cache, main], route([cache, main], [Rule(0.5), Rule()]))
    assert figures["stages"][0]["accuracy"] is None
    assert figures["saving_rate"] == 0
