"""The simulation is the plain loop that its documentation tells, only faster."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.evaluation.scores import Floats, Ids, Sample, score
from pipeline.evaluation.simulation.mixes import edit, observed, of_month, species_mix
from pipeline.evaluation.simulation.monte_carlo import Day, Simulation, half_width, runs_enough, storage, summary
from pipeline.evaluation.simulation.monte_carlo import simulate as simulate_days
from pipeline.sections.evaluation import MonteCarlo

FIGURES = ["accuracy", "macro_f1", "communication_rate"]


def outcome(n: int = 200, labels: int = 9, seed: int = 0) -> Sample:
    """Long-tailed; a few answers are of no label, and one truth is."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, labels + 1)
    truth = rng.choice(labels, n, p=share / share.sum())
    answers = np.where(rng.random(n) < 0.7, truth, rng.integers(-1, labels, n))
    truth[0] = -2
    sent_on = rng.random(n) < 0.4
    return Sample(truth, answers, labels, ratios={"communication_rate": (sent_on, np.ones(n))})


def species(sample: Sample) -> Ids:
    return np.maximum(sample.truth, 0)


def simulate(sample: Sample, runs: int, samples: int, seed: int, cells: int = 2_000_000) -> pd.DataFrame:
    return simulate_days(sample, Day(species(sample), samples), runs, seed, cells).runs[["run", *FIGURES]]


def plain(given: Sample, runs: int, samples: int, seed: int) -> pd.DataFrame:
    rows = []
    sent_on = given.ratios["communication_rate"][0]
    for run in range(runs):
        draw = np.random.default_rng([seed, run]).integers(0, len(given.truth), samples)
        truth, answers = given.truth[draw], given.answers[draw]
        right = sum(1 for t, a in zip(truth, answers, strict=True) if t == a)
        f1 = []
        for label in set(truth.tolist()) - {-2}:
            tp = sum(1 for t, a in zip(truth, answers, strict=True) if t == a == label)
            f1.append(2 * tp / ((truth == label).sum() + (answers == label).sum()))
        rows.append((run, right / samples, sum(f1) / len(f1), sent_on[draw].mean()))
    return pd.DataFrame(rows, columns=["run", *FIGURES])


def test_agrees_with_a_plain_loop() -> None:
    table = simulate(outcome(), 40, 60, seed=3)
    assert table.columns.tolist() == ["run", *FIGURES]
    pd.testing.assert_frame_equal(table, plain(outcome(), 40, 60, seed=3), rtol=1e-12)


def test_fewer_samples_than_labels() -> None:
    pd.testing.assert_frame_equal(simulate(outcome(), 20, 3, seed=1), plain(outcome(), 20, 3, seed=1), rtol=1e-12)


@pytest.mark.parametrize("cells", [1, 1400, 20_000])
def test_the_chunk_size_changes_nothing(cells: int) -> None:
    pd.testing.assert_frame_equal(
        simulate(outcome(), 50, 30, 0, cells), simulate(outcome(), 50, 30, 0), check_exact=True
    )


def test_seeded_and_more_runs_keep_the_first_ones() -> None:
    first = simulate(outcome(), 20, 30, seed=0)
    pd.testing.assert_frame_equal(simulate(outcome(), 60, 30, seed=0)[:20], first, check_exact=True)
    assert not simulate(outcome(), 20, 30, seed=1)["accuracy"].equals(first["accuracy"])


def figures_of(sample: Sample, day: Day, runs: int) -> tuple[dict[str, dict[str, float]], Simulation]:
    found = simulate_days(sample, day, runs, 0)
    return summary(sample, found), found


def test_means_are_near_the_figures_of_all_photos() -> None:
    given = outcome(n=1000)
    figures, _ = figures_of(given, Day(species(given), 500), 400)
    whole = score(given, np.ones((1, 1000)))
    for name, within in (("accuracy", 0.005), ("communication_rate", 0.005), ("macro_f1", 0.02)):
        assert figures[name]["mean"] == pytest.approx(whole[name][0], abs=within)
        assert figures[name]["pooled"] == pytest.approx(whole[name][0], abs=0.005)
        low, high = figures[name]["mean_95"]
        assert low < figures[name]["mean"] < high
        assert high - low < figures[name]["high_95"] - figures[name]["low_95"]


def test_the_interval_is_that_of_the_binomial() -> None:
    given = outcome(n=1000)
    figures = figures_of(given, Day(species(given), 400), 2000)[0]["accuracy"]
    p = float((given.truth == given.answers).mean())
    half = 1.96 * np.sqrt(p * (1 - p) / 400)
    assert figures["low_95"] == pytest.approx(p - half, abs=0.006)
    assert figures["high_95"] == pytest.approx(p + half, abs=0.006)


def test_a_run_without_a_photo_of_a_figure_is_no_part_of_it() -> None:
    """One photo of ten is a hit, and it is right; a day of three photos often has none."""
    truth = np.arange(10)
    hit, nothing = truth == 0, np.zeros(10)
    ratios = {"hit_precision": (hit, hit), "nothing": (nothing, nothing)}
    figures, found = figures_of(Sample(truth, truth, 10, ratios=ratios), Day(truth, 3), 200)
    assert 100 < found.runs["hit_precision"].isna().sum() < 200
    assert figures["hit_precision"]["mean"] == figures["hit_precision"]["low_95"] == 1
    assert figures["hit_precision"]["mean_95"] == [1, 1]
    assert set(figures["nothing"].values()) == {None}


def test_the_interval_of_the_mean_of_few_runs_holds_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    runs = rng.normal(0, 1, (4000, 5))
    held = np.abs(runs.mean(axis=1)) <= half_width(runs.std(axis=1, ddof=1), 5)
    assert held.mean() == pytest.approx(0.95, abs=0.01)  # 1.96 standard errors hold 88 %
    assert runs_enough(1.0, 2.0) == 4  # Student's 3.18 / 2 is the first below 2


def test_certainty() -> None:
    truth = np.array([0, 1, 2])
    sample = Sample(truth, truth, 3)
    accuracy = figures_of(sample, Day(truth, 10), 5)[0]["accuracy"]
    assert accuracy == {"mean": 1, "mean_95": [1, 1], "sd": 0, "low_95": 1, "high_95": 1, "pooled": 1}
    one = figures_of(sample, Day(truth, 10), 1)[0]["accuracy"]  # of which nobody knows how far it is from the next
    assert one == {"mean": 1, "mean_95": None, "sd": None, "low_95": None, "high_95": None, "pooled": 1}
    assert runs_enough(accuracy["sd"], 0.01) == 2  # of one run nobody knows


def test_no_photos() -> None:
    with pytest.raises(DataError, match="no photos to draw from; the part of the data set is empty"):
        Day(np.array([], int), 1)


# other draws ---------------------------------------------------------------------------------------------------------

TAIL = np.repeat(np.arange(4), [70, 20, 9, 1])


def drawn(day: Day, runs: int = 300) -> list[Ids]:
    return [day.draw(np.random.default_rng([0, run])) for run in range(runs)]


def shares(day: Day) -> Floats:
    return np.bincount(day.species[np.concatenate(drawn(day))], minlength=4) / (300 * day.samples)


def test_a_mix_sets_the_shares_of_the_species_and_treats_photos_of_one_alike() -> None:
    mix = np.array([1, 1, 1, 1.0])
    assert shares(Day(TAIL, 50, mix)) == pytest.approx([0.25] * 4, abs=0.02)
    photos = np.bincount(np.concatenate(drawn(Day(TAIL, 50, mix), 2000)), minlength=100)[:70]
    assert photos.std() / photos.mean() < 0.1
    assert shares(Day(TAIL, 50)) == pytest.approx([0.7, 0.2, 0.09, 0.01], abs=0.02)


def test_a_wild_mix_without_replacement_draws_no_missing_species_and_no_photo_twice() -> None:
    mix = np.array([0, 1, 2, 3.0])  # the first species does not come
    rest = np.flatnonzero(TAIL > 0)
    for first in (False, True):
        day = Day(TAIL, len(rest), mix, replacement=False, every_species=first, dirichlet=0.001)
        for photos in drawn(day, 20):
            assert sorted(photos.tolist()) == rest.tolist()


def test_without_replacement_no_photo_comes_twice() -> None:
    for day in (Day(TAIL, 60, replacement=False), Day(TAIL, 60, np.array([1, 2, 3, 4.0]), False, every_species=True)):
        assert all(len(set(draw.tolist())) == 60 for draw in drawn(day, 30))
    assert sorted(drawn(Day(TAIL, 100, replacement=False), 1)[0].tolist()) == list(range(100))
    assert shares(Day(TAIL, 50, replacement=False)) == pytest.approx([0.7, 0.2, 0.09, 0.01], abs=0.01)
    with pytest.raises(DataError, match="101 samples cannot be drawn from 100 photos without replacement; lower"):
        Day(TAIL, 101, replacement=False)


def test_every_species_at_least_once_as_the_predecessors_drew() -> None:
    day = Day(TAIL, 24, every_species=True)
    for draw in drawn(day):
        assert set(TAIL[draw]) == {0, 1, 2, 3}
    # one of each, then 20 by photos
    assert shares(day) == pytest.approx((1 + 20 * np.array([0.7, 0.2, 0.09, 0.01])) / 24, abs=0.02)


def test_every_species_needs_as_many_samples_as_species() -> None:
    assert len(Day(TAIL, 4, every_species=True).draw(np.random.default_rng(0))) == 4
    with pytest.raises(DataError, match="3 samples cannot hold each of the 4 species once; set monte_carlo.samples to"):
        Day(TAIL, 3, every_species=True)
    assert len(Day(TAIL, 3, np.array([1, 1, 1, 0.0]), every_species=True).draw(np.random.default_rng(0))) == 3


def test_dirichlet_keeps_the_mean_and_widens_the_runs() -> None:
    still, mild, wild = (Day(TAIL, 100, dirichlet=c) for c in (0, 100, 5))
    assert shares(wild)[0] == pytest.approx(0.7, abs=0.05)
    spread = [np.std([(TAIL[d] == 0).mean() for d in drawn(day)]) for day in (still, mild, wild)]
    assert spread[0] < spread[1] < spread[2]


def test_a_species_without_photos_is_never_drawn() -> None:
    day = Day(np.array([0, 0, 2]), 30, np.array([1, 5, 1.0]), every_species=True)
    assert day.shares.tolist() == [0.5, 0, 0.5]
    assert set(np.concatenate(drawn(day, 20)).tolist()) == {0, 1, 2}
    with pytest.raises(DataError, match="the mix of species leaves none that has a photo to draw"):
        Day(np.array([0, 0]), 3, np.array([0, 1.0]))


def test_other_draws_do_not_depend_on_the_chunk_size_either() -> None:
    given = outcome()
    day = Day(species(given), 40, np.arange(1, 10.0), replacement=False, every_species=True, dirichlet=30)
    one, other = (simulate_days(given, day, 30, 0, cells) for cells in (1, 2_000_000))
    pd.testing.assert_frame_equal(one.runs, other.runs, check_exact=True)
    assert one.drawn.tolist() == other.drawn.tolist()


# mixes ---------------------------------------------------------------------------------------------------------------

NAMES = ["a", "b", "c"]
ROWS = pd.DataFrame({"image_path": ["1", "2", "3", "4"], "species": ["a", "a", "b", "c"]})


def test_mixes(tmp_path: Path, lines: Callable[[], list[str]]) -> None:
    assert species_mix(MonteCarlo(), NAMES, ROWS) is None
    assert species_mix(MonteCarlo(mix="uniform"), NAMES, ROWS) == pytest.approx([1, 1, 1])
    (tmp_path / "region.json").write_text('{"Insecta": {"a": 5, "c": 15, "elsewhere": 9}}')
    seen = MonteCarlo(mix="observed", observed=tmp_path / "region.json")
    assert species_mix(seen, NAMES, ROWS) == pytest.approx([5, 0, 15])
    assert lines() == [f"  1 of 3 species have no observation in {tmp_path / 'region.json'}, e.g. b"]
    (tmp_path / "dates.csv").write_text("image_path,date\n1,2020-05-01\n2,2020-06-01\n3,2019-05-31\n4,unknown\n")
    may = MonteCarlo(mix="month", dates=tmp_path / "dates.csv", month=5)
    assert species_mix(may, NAMES, ROWS) == pytest.approx([1, 1, 0])
    with pytest.raises(DataError, match="no photo of the data set has a date in month 1"):
        of_month(tmp_path / "dates.csv", 1, ROWS)
    dated = ROWS.assign(date=["2020-05-01", "", "2019-06-30", "2021-05-09"])
    assert species_mix(MonteCarlo(mix="month", month=5), NAMES, dated) == pytest.approx([1, 0, 1])
    with pytest.raises(DataError, match="no photo of the data set has a date in month 1 in the manifest"):
        of_month(None, 1, dated)
    with pytest.raises(DataError, match=r"the manifest has no dates; set monte_carlo\.dates"):
        of_month(None, 5, ROWS)


def test_missing_and_newly_dominant_species() -> None:
    mix = np.array([6, 3, 1.0])
    assert edit(mix, NAMES, ["a"], {}).tolist() == [0, 3, 1]
    assert edit(mix, NAMES, [], {"c": 0.8}) == pytest.approx([0.2 * 6 / 9, 0.2 * 3 / 9, 0.8])
    assert edit(mix, NAMES, ["b"], {"c": 0.5}) == pytest.approx([0.5, 0, 0.5])
    assert edit(np.array([5, 5, 0.0]), NAMES, [], {"a": 0.8, "b": 0.1}) == pytest.approx([0.8, 0.1, 0])
    found = species_mix(MonteCarlo(missing=["a"]), NAMES, ROWS)
    assert found is not None
    assert found.tolist() == [0, 1, 1]
    with pytest.raises(ConfigError, match="monte_carlo names 'bee', which is no species of the data set"):
        species_mix(MonteCarlo(missing=["bee"]), NAMES, ROWS)


def test_a_dominant_species_holds_its_share_where_others_lack_photos() -> None:
    settings, photos = MonteCarlo(dominant={"a": 0.8}), np.array([10, 0, 10])
    mix = species_mix(settings, NAMES, ROWS, photos)
    assert Day(np.repeat(np.arange(3), photos), 5, mix).shares == pytest.approx([0.8, 0, 0.2])
    with pytest.raises(
        DataError, match="monte_carlo.dominant gives 'a' a share, but no test photo is of it; leave it out"
    ):
        species_mix(settings, NAMES, ROWS, np.array([0, 1, 1]))


@pytest.mark.parametrize("text", ["[]", "{}", '{"a": "many"}', '{"a": -1}', "not JSON"])
def test_observed_frequencies_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "region.json").write_text(text)
    with pytest.raises(DataError, match="region.json"):
        observed(tmp_path / "region.json")


def test_dates_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "dates.csv").write_text("photo,when\n1,2020-05-01\n")
    for name in ("dates.csv", "no.csv"):
        with pytest.raises(DataError, match="is no table of image_path and date"):
            of_month(tmp_path / name, 5, ROWS)


@pytest.mark.parametrize(
    "wrong",
    [{"mix": "observed"}, {"mix": "month"}, {"dominant": {"a": 1.0}}, {"dominant": {"a": 0.6, "b": 0.6}},
     {"dominant": {"a": 0.6}, "missing": ["a"]}],
)  # fmt: skip
def test_settings_that_contradict_themselves(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"mix|dominant"):
        MonteCarlo(**wrong)


# storage and runs ----------------------------------------------------------------------------------------------------


def test_storage_agrees_with_drawing_photo_by_photo() -> None:
    found = storage(0.3, photo_kb=10, limit_mb=1, runs=400, seed=0)
    assert found["kept"] == 103  # of 10 KB each in 1024 KB
    rng, plain_ = np.random.default_rng(1), []
    for _ in range(400):
        plain_.append(int(np.flatnonzero(np.cumsum(rng.random(2000) < 0.3) == 103)[0]) + 1)
    assert found["looked_at"]["mean"] == pytest.approx(np.mean(plain_), rel=0.02)
    assert found["looked_at"]["low_95"] == pytest.approx(np.percentile(plain_, 2.5), rel=0.05)


def test_the_published_storage_figure() -> None:
    """1 GiB holds 4,518 photos of 232.102 KB."""
    found = storage(1.0, 232.102, 1024, 10, 0)
    assert found["kept"] == found["looked_at"]["mean"] == 4518
    assert storage(0.0, 232.102, 1024, 10, 0)["looked_at"] is None  # never full


def test_as_many_runs_as_are_enough_hold_the_mean() -> None:
    rng = np.random.default_rng(0)
    runs = runs_enough(0.05, 0.005)
    assert runs == 387
    means = rng.normal(0.7, 0.05, (500, runs)).mean(axis=1)
    assert (abs(means - 0.7) < 0.005).mean() == pytest.approx(0.95, abs=0.03)


def test_a_thousand_runs_of_a_thousand_photos_take_seconds() -> None:
    """A tenth of the 10,000 runs over 3,400 photos of 144 species that must take less than a minute."""
    given = outcome(3400, 144)
    start = time.process_time()
    simulate(given, 1000, 1000, 0)
    assert time.process_time() - start < 3
