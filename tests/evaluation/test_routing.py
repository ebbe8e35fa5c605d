"""The cascade over stored predictions is the cascade on the device; thresholds are chosen on what they are given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy import COLOURS, RECIPE, cache_colours, write_model, write_photo

from pipeline.edge.cascade import Cascade, Stage, probabilities
from pipeline.edge.model import Model
from pipeline.errors import LabelSpaceError
from pipeline.evaluation.predict import Predictions, predict
from pipeline.evaluation.routing import cascade_figures, choose_thresholds, route, species_space, truth_ids
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


@pytest.mark.parametrize("thresholds", [[0, 0, 0], [1, 1, 0], [1, 1, 1], [0.5, 0.7, 0], [0.7, 0.6, 0.5], "own"])
@pytest.mark.parametrize("used", [[0, 1, 2], [0, 2], [2], [0, 1], [0]])
def test_stored_predictions_are_routed_as_the_device_does(
    stages: tuple[Path, list[Model], list[Predictions]], used: list[int], thresholds: list[float] | str
) -> None:
    root, models, tables = stages
    limits = own_thresholds(tables) if thresholds == "own" else [float(t) for t in thresholds]
    routed = route([tables[i] for i in used], [limits[i] for i in used])
    cascade = Cascade([Stage(str(i), models[i], limits[i]) for i in used])
    device = [cascade.classify(root / path) for path in tables[0].rows["image_path"]]
    names = [*routed.labels.names, "unknown"]
    assert [names[i] for i in routed.answers] == [answer.species for answer in device]
    assert [str(used[k]) for k in routed.stage] == [answer.stage for answer in device]
    asked = [len(answer.infer_ms) for answer in device]
    assert (routed.stage + 1).tolist() == asked


def test_a_threshold_of_one_sends_all_on_and_zero_all_but_other(
    stages: tuple[Path, list[Model], list[Predictions]],
) -> None:
    _, _, (first, _, main) = stages
    assert (route([first, main], [1, 0]).stage == 1).all()
    open_ = route([first, main], [0, 0]).stage == 1
    assert open_.tolist() == (first.logits.argmax(1) == 2).tolist()
    assert 0 < open_.sum() < 80


def test_an_answer_without_numbers_is_no_species() -> None:
    a, main = ("a", "Other"), ("a", "b")
    nothing = np.full((1, 2), np.nan)
    routed = route([table(["a"], nothing, a, "cache"), table(["a"], nothing, main)], [0, 0])
    assert routed.answers.tolist() == [-1]


def test_labels_are_joined_by_name() -> None:
    cache = table(["b", "z"], [[9, 0, 0], [0, 0, 9]], ["b", "a", "Other"], "cache")
    main = table(["b", "z"], [[0, 0, 0], [0, 9, 0]], ["a", "z", "b"])
    routed = route([cache, main], [0.5, 0])
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
        route([one, replace(other, data_hash="4567")], [0, 0])


# figures ------------------------------------------------------------------------------------------------------------


def test_figures_by_hand() -> None:
    species = ["a", "a", "b", "b"]
    cache = table(species, [[9, 0], [0, 9], [9, 0], [0, 9]], ["a", "Other"], "cache")
    main = table(species, [[9, 0], [9, 0], [9, 0], [9, 0]], ["a", "b"])
    main.rows["infer_ms"] = 20.0
    figures = cascade_figures([cache, main], route([cache, main], [0.5, 0]))
    assert figures["stages"] == [
        {"name": "cache", "photos": 2, "hit_rate": 0.5, "accuracy": 0.5},
        {"name": "main", "photos": 2, "hit_rate": 0.5, "accuracy": 0.5},
    ]
    assert (figures["communication_rate"], figures["saving_rate"]) == (0.5, 0.5)
    assert figures["ms_per_image"] == 2 + 1 + 5 + 0.5 * 20  # decode and prepare once, cache always, main half the time
    assert figures["ms_per_image_main_alone"] == 2 + 1 + 20


def test_another_recipe_is_prepared_again_where_it_is_asked() -> None:
    species = ["a", "b"]
    cache = table(species, [[9, 0], [0, 9]], ["a", "Other"], "cache")
    recipe = replace(RECIPE, size=64)
    main = table(species, [[9, 0], [0, 9]], ["a", "b"])
    main = replace(main, card={**main.card, "recipe": recipe.to_dict(), "recipe_hash": recipe.hash})
    figures = cascade_figures([cache, main], route([cache, main], [0.5, 0]))
    assert figures["ms_per_image"] == 2 + (1 + 5) + 0.5 * (1 + 5)


def test_a_stage_that_answers_nothing_has_no_accuracy() -> None:
    cache = table(["a"], [[0, 9]], ["a", "Other"], "cache")
    main = table(["a"], [[9, 0]], ["a", "b"])
    figures = cascade_figures([cache, main], route([cache, main], [0.5, 0]))
    assert figures["stages"][0]["accuracy"] is None
    assert figures["saving_rate"] == 0


# the choice of thresholds -------------------------------------------------------------------------------------------


def pair(seed: int, n: int = 600, skill: float = 2.0, dominant: int = 2) -> list[Predictions]:
    """A cache of `dominant` of 6 species, and main; the cache is less skilled."""
    rng = np.random.default_rng(seed)
    names = [f"s{i}" for i in range(6)]
    truth = rng.choice(6, n, p=[0.35, 0.25, 0.15, 0.1, 0.1, 0.05])
    main = rng.normal(0, 1, (n, 6))
    main[np.arange(n), truth] += 2.5
    cache = rng.normal(0, 1, (n, dominant + 1))
    cache[np.arange(n), np.minimum(truth, dominant)] += skill
    species = [names[i] for i in truth]
    return [table(species, cache * 1.5, [*names[:dominant], "Other"], "cache"), table(species, main, names)]


def score(tables: list[Predictions], thresholds: list[float]) -> tuple[float, float]:
    routed = route(tables, thresholds)
    truth = truth_ids(tables[0].rows["species"].tolist(), routed.labels)
    return float((routed.answers == truth).mean()), float((routed.stage == len(tables) - 1).mean())


def alone(tables: list[Predictions]) -> float:
    return score(tables, [2.0] * (len(tables) - 1) + [0.0])[0]


@pytest.mark.parametrize("max_drop", [0.0, 0.005, 0.02, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_accuracy_is_kept_and_as_much_saved_as_brute_force_finds(seed: int, max_drop: float) -> None:
    tables = pair(seed)
    chosen = choose_thresholds(tables, max_drop)
    accuracy, sent_on = score(tables, chosen)
    wanted = alone(tables) - max_drop
    assert accuracy >= wanted - 1e-12
    grid = [score(tables, [t, 0.0]) for t in np.linspace(0, 1, 2001)]
    assert sent_on <= min(rate for found, rate in grid if found >= wanted) + 1e-12
    assert chosen[1] == 0
    assert 0 <= chosen[0] <= 1


def test_more_than_one_cache_keeps_the_accuracy_too() -> None:
    tables = pair(3)
    species = tables[0].rows["species"].tolist()
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (len(species), 2))
    logits[np.arange(len(species)), [0 if name == "s2" else 1 for name in species]] += 3
    second = table(species, logits, ["s2", "Other"], "second")
    chosen = choose_thresholds([tables[0], second, tables[1]], 0.01)
    accuracy, sent_on = score([tables[0], second, tables[1]], chosen)
    assert accuracy >= alone(tables) - 0.01 - 1e-12
    assert sent_on <= score(tables, choose_thresholds(tables, 0.01))[1]
    assert all(0 <= threshold <= 1 for threshold in chosen)


def test_what_an_earlier_cache_answers_counts_no_more_for_a_later_one() -> None:
    species = ["a", "b", "d"]
    first = table(species, [[9, 0], [0, 9], [0, 9]], ["a", "Other"], "first")
    second = table(species, [[9, 0, 0], [0, 4, 0], [0, 0, 9]], ["c", "b", "Other"], "second")  # wrong, right, passed on
    main = table(species, [[9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 0, 9]], ["a", "b", "c", "d"])
    chosen = choose_thresholds([first, second, main], 0.0)
    assert score([first, second, main], chosen) == (1.0, pytest.approx(1 / 3))


def test_only_the_given_photos_choose() -> None:
    both = pair(5, n=800)
    val = [replace(t, rows=t.rows[:400], logits=t.logits[:400]) for t in both]
    for t in both:
        t.rows.loc[400:, "split"] = "test"
    assert choose_thresholds([t.part("val") for t in both], 0.01) == choose_thresholds(val, 0.01)
    spoilt = [replace(t, logits=np.vstack([t.logits[:400], -t.logits[400:]])) for t in both]
    assert choose_thresholds([t.part("val") for t in spoilt], 0.01) == choose_thresholds(val, 0.01)


def test_a_useless_cache_is_switched_off() -> None:
    tables = pair(6, skill=-6.0)
    assert choose_thresholds(tables, 0.0) == [1.0, 0.0]
    assert score(tables, [1.0, 0.0]) == (alone(tables), 1.0)


def test_a_perfect_cache_is_always_asked() -> None:
    tables = pair(7, skill=40.0)
    chosen = choose_thresholds(tables, 0.0)
    share = np.mean([name in ("s0", "s1") for name in tables[0].rows["species"]])
    assert score(tables, chosen)[1] == pytest.approx(1 - share)


def test_where_nothing_keeps_the_accuracy_the_most_accurate_is_taken() -> None:
    """Three wrong answers with a probability that rounds to 1 cannot be switched off by any threshold up to 1."""
    species = ["b"] * 3 + ["a"] * 2 + ["b"]
    cache = table(species, [[100, 0]] * 3 + [[2, 0]] * 2 + [[1, 0]], ["a", "Other"], "cache")
    main = table(species, [[0, 9]] * 3 + [[0, 9], [9, 0], [0, 9]], ["a", "b"])
    assert probabilities(cache.logits).max() == 1.0
    chosen = choose_thresholds([cache, main], 0.0)
    assert score([cache, main], chosen)[0] == max(score([cache, main], [t, 0.0])[0] for t in np.linspace(0, 1, 1001))
    assert 0 < chosen[0] <= probabilities(cache.logits)[3].max()


def test_sure_to_the_last_digit() -> None:
    species = ["a", "b"]
    cache = table(species, [[100, 0], [0, 100]], ["a", "Other"], "cache")
    main = table(species, [[9, 0], [0, 9]], ["a", "b"])
    chosen = choose_thresholds([cache, main], 0.0)
    assert chosen == [1.0, 0.0]
    assert score([cache, main], chosen) == (1.0, 0.5)


def test_photos_that_share_a_probability_are_taken_together() -> None:
    species = ["a", "a", "b", "a"]
    cache = table(species, [[3, 0], [1, 0], [1, 0], [1, 0]], ["a", "Other"], "cache")
    main = table(species, [[9, 0], [9, 0], [0, 9], [9, 0]], ["a", "b"])
    chosen = choose_thresholds([cache, main], 0.0)
    assert score([cache, main], chosen) == (1.0, 0.75)


def test_all_photos_other() -> None:
    species = ["b", "b"]
    cache = table(species, [[0, 9], [0, 9]], ["a", "Other"], "cache")
    main = table(species, [[0, 9], [0, 9]], ["a", "b"])
    assert choose_thresholds([cache, main], 0.0) == [1.0, 0.0]


def test_main_alone_needs_no_threshold() -> None:
    assert choose_thresholds(pair(0)[1:], 0.0) == [0.0]


def test_thresholds_need_a_main_model() -> None:
    with pytest.raises(LabelSpaceError, match="chosen against a main model, but the last stage is a cache"):
        choose_thresholds(pair(0)[:1], 0.0)


def test_a_threshold_lies_a_little_below_the_photo_that_it_lets_through() -> None:
    tables = pair(1)
    chosen = choose_thresholds(tables, 0.01)[0]
    above = probabilities(tables[0].logits).max(axis=1) - chosen
    assert 0 <= above[above >= 0].min() < 1e-6
    assert f"{chosen:.6f}" == str(chosen).ljust(8, "0")
