"""Pictures are made, for few species and for many."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.edge.rule import Rule
from pipeline.evaluation import charts, plots
from pipeline.evaluation.predict import Predictions
from pipeline.evaluation.routing import route
from pipeline.evaluation.tables import judge

from .tables import table


def experiment(species: int, n: int, skill: float = 2.5, dominant: int = 2) -> list[Predictions]:
    """Cache and main on a long tail of species with long names; a third of the photos are val."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, species + 1)
    truth = np.concatenate([np.arange(species), rng.choice(species, n - species, p=share / share.sum())])
    main = rng.normal(0, 1, (n, species))
    main[np.arange(n), truth] += skill
    cache = rng.normal(0, 1, (n, dominant + 1))
    cache[np.arange(n), np.minimum(truth, dominant)] += skill
    names = [f"Genus{i} longspeciesnamensis$ nº{i}" for i in range(species)]
    tables = [table([names[i] for i in truth], cache, [*names[:dominant], "Other"], "cache_0.5_0")]
    tables.append(table([names[i] for i in truth], main, names))
    for found in tables:
        found.rows["split"] = np.where(np.arange(n) % 3 == 1, "val", "test")
    return tables


@pytest.mark.parametrize(("species", "n"), [(3, 40), (150, 1500)])
def test_all_pictures_are_made(tmp_path: Path, species: int, n: int) -> None:
    tables = experiment(species, n, skill=2.5 if species < 100 else 3.5)
    chosen = [Rule(0.7), Rule()]
    plots.draw(tmp_path / "plots", tables, chosen, route([found.part("test") for found in tables], chosen))
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(plots.PICTURES)
    for path in (tmp_path / "plots").iterdir():
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert 400 < image.width < 2000
            assert 150 < image.height < 2000
            assert len(image.convert("RGB").getcolors(1 << 24) or []) > 10


def test_answers_of_no_species_are_drawn(tmp_path: Path) -> None:
    """No main model: what no cache knows is unknown, and so is a species that no stage knows."""
    tables = experiment(3, 40)[:1]
    plots.draw(tmp_path, tables, [Rule(0.9)], route([found.part("test") for found in tables], [Rule(0.9)]))
    assert len(list(tmp_path.iterdir())) == len(plots.PICTURES)


def test_the_same_tables_give_the_same_bytes(tmp_path: Path) -> None:
    tables = experiment(3, 40)
    rules = [None, Rule()]  # the cache is off
    for name in ("one", "two"):
        plots.draw(tmp_path / name, tables, rules, route([found.part("test") for found in tables], rules))
    for picture in plots.PICTURES:
        assert (tmp_path / "one" / picture).read_bytes() == (tmp_path / "two" / picture).read_bytes()


# of simulations and reports ------------------------------------------------------------------------------------------


def colours(path: Path) -> int:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return len(image.convert("RGB").getcolors(1 << 24) or [])


def test_the_whole_confusion_of_very_many_labels_is_no_larger_than_a_machine_can_draw(tmp_path: Path) -> None:
    names = [f"species {i}" for i in range(2000)]
    plots.whole_confusion(pd.DataFrame(np.eye(2000, dtype=int), names, names), "title", tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert image.width < 2000


@pytest.mark.parametrize("labels", [2, 144])
def test_the_whole_confusion_is_as_large_as_its_labels_need(tmp_path: Path, labels: int) -> None:
    rng = np.random.default_rng(0)
    names = [f"Genus{i} speciesname" for i in range(labels)]
    matrix = pd.DataFrame(rng.integers(0, 3, (labels, labels)) * 10 + 90 * np.eye(labels, dtype=int), names, names)
    matrix.iloc[0] = 0  # a species without photos
    plots.whole_confusion(matrix, "title", tmp_path / "x.png")
    assert colours(tmp_path / "x.png") > 10
    with Image.open(tmp_path / "x.png") as image:
        assert image.width / labels > 17  # px: a cell holds its number


def test_names_that_no_font_has_and_no_display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    names = ["蝶 🦋", "Zygène $x_1$"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a glyph is missing
        plots.whole_confusion(pd.DataFrame([[3, 1], [0, 2]], names, names), "蝶", tmp_path / "x.png")
    assert colours(tmp_path / "x.png") > 10


@pytest.mark.parametrize("runs", [1, 2, 300])
def test_convergence_of_few_and_many_runs(tmp_path: Path, runs: int) -> None:
    values = np.random.default_rng(0).normal(0.7, 0.02, runs)
    table_ = pd.DataFrame({"accuracy": values, "macro_f1": np.full(runs, 0.5)})
    plots.convergence(table_, {"accuracy": values.mean(), "macro_f1": 0.5}, 0.002, tmp_path / "x.png")
    assert colours(tmp_path / "x.png") > 10


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn, not written."""
    drawn: list[Figure] = []
    for module in (charts, plots):
        monkeypatch.setattr(module, "save", lambda figure, path: drawn.append(figure))
    return drawn


def test_one_run_is_not_enough_to_tell_how_many_are(shown: list[Figure]) -> None:
    plots.convergence(pd.DataFrame({"accuracy": [0.7]}), {"accuracy": 0.7}, 0.002, Path())
    assert shown[0].axes[0].get_title(loc="left") == "accuracy: how many runs are enough needs two runs or more"


def test_no_system_is_lost_where_there_are_more_than_colours(shown: list[Figure]) -> None:
    judged = judge(experiment(3, 40)[1].part("test"))
    names = [f"system {i}" for i in range(10)]
    charts.calibration(dict.fromkeys(names, judged), dict.fromkeys(names, 0.1), Path())
    rows = [
        {"corruption": kind, "level": level, "system": name, "accuracy": 0.5, "accuracy_low_95": 0, "accuracy_high_95": 1}
        for name in names for kind, level in (("clean", 0), ("blur", 1))
    ]  # fmt: skip
    charts.stress(pd.DataFrame(rows), Path())
    told = [{text.get_text().split(":")[0] for text in one.legends[0].texts} for one in (shown[1],)]
    told.append({text.get_text().split(":")[0] for text in shown[0].axes[0].get_legend().texts} - {"perfect"})
    assert told == [set(names)] * 2


def test_the_micro_curve_tells_its_area(shown: list[Figure]) -> None:
    judged = judge(experiment(6, 200)[1].part("test"))
    assert judged.probabilities is not None
    charts.curves(judged, Path())
    of = np.eye(6)[judged.truth]
    area = average_precision_score(of, judged.probabilities, average="micro")
    told = [text.get_text() for text in shown[0].axes[0].get_legend().texts]
    assert told == [f"all together (micro), area {area:.3f}"]


def test_own_thresholds_of_several_caches_are_told_once(shown: list[Figure]) -> None:
    cache, main = experiment(3, 40)
    charts.thresholds([cache, cache, main], [Rule(0.5), Rule(0.7), Rule()], Path())
    told = [text.get_text() for text in shown[0].axes[0].get_legend().texts]
    assert told.count("the cascade's own threshold") == 1


def test_curves_agree_with_scikit_learn(tmp_path: Path) -> None:
    judged = judge(experiment(6, 200)[1].part("test"))
    found = charts.curves(judged, tmp_path / "x.png").set_index("species")
    assert judged.probabilities is not None
    for i, name in enumerate(judged.labels.names):
        p = judged.probabilities[:, i]
        assert found.loc[name, "average_precision"] == pytest.approx(average_precision_score(judged.truth == i, p))
        assert found.loc[name, "roc_auc"] == pytest.approx(roc_auc_score(judged.truth == i, p))
    assert found["average_precision"].is_monotonic_increasing
    assert colours(tmp_path / "x.png") > 10


def test_a_perfect_classifier_is_precise_at_every_recall() -> None:
    of = np.arange(100) < 4
    p = np.where(of, 0.9, 0.1) + np.arange(100) / 1000
    assert charts.interpolated(of, p) == pytest.approx(1)
    p[0] = 0.0  # one is told last: three of four are found without an error, the fourth with all the others
    steps = charts.interpolated(of, p)
    assert steps[charts.GRID <= 0.75] == pytest.approx(1)
    assert steps[charts.GRID > 0.75] == pytest.approx(4 / 100)


def test_curves_of_named_species_have_the_colours(shown: list[Figure]) -> None:
    judged = judge(experiment(8, 200)[1].part("test"))
    names = [judged.labels.names[i] for i in (7, 2)]
    charts.curves(judged, Path(), [*names, "no species"])
    charts.curves(judged, Path(), ["no species"])
    of_named, of_worst = ([text.get_text() for text in one.axes[1].get_legend().texts] for one in shown)
    assert of_named == [*names, "mean of the species"]
    assert len(of_worst) == 6


def test_f1_of_one_model_says_whose_it_is(shown: list[Figure]) -> None:
    judged = judge(experiment(6, 200)[0].part("test"))
    plots.worst_and_best(judged.truth, judged.answers, judged.labels, "cache_0.5_0", Path())
    (axes,) = shown[0].axes
    assert axes.get_xlabel().startswith("F1 of cache_0.5_0 on test")
    assert {label.get_text().rpartition(" (")[0] for label in axes.get_yticklabels()} == set(judged.labels.names)


def test_curves_of_a_single_species(tmp_path: Path) -> None:
    judged = judge(table(["a", "a"], np.array([[1, 0], [0, 1]]), ["a", "b"]))
    assert charts.curves(judged, tmp_path / "x.png").empty  # nothing to tell apart
