"""The cascade designs itself: the search misses nothing that brute force finds, and what it writes is what eval uses."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from toy import COLOURS, Experiment, cache_colours, write_model

from pipeline.config import load_config
from pipeline.dataset.manifest import learnt_manifest, read_manifest
from pipeline.edge.rule import Rule
from pipeline.errors import ModelError
from pipeline.evaluation.choosing.design import design
from pipeline.evaluation.choosing.search import (
    StageModel,
    best_next,
    candidates,
    figures,
    front,
    order,
    perfect_routing,
    search,
)
from pipeline.evaluation.choosing.sweep import THRESHOLDS
from pipeline.evaluation.experiment import chosen
from pipeline.evaluation.predict import predict_stages, stage_names
from pipeline.evaluation.routing import at, cascade_figures, route, truth_ids
from pipeline.evaluation.run import evaluate
from pipeline.sections.evaluation import Route

from .tables import pair


def test_a_design_is_the_cascade_that_it_names() -> None:
    tables = pair(1, n=300, caches=2)
    for table, ms in zip(tables, (3.0, 5.0, 40.0), strict=True):
        table.rows["infer_ms"] = ms
    first, second, main = candidates(tables, [Rule()] * 3)
    for caches, used in (([], [2]), ([first], [0, 2]), ([second, first], [1, 0, 2])):
        one = order(caches, main)
        for i in (0, 40, len(THRESHOLDS) - 1):
            own = [tables[k] for k in used]
            routed = route(own, at(own, [Rule()] * len(used), float(THRESHOLDS[i])))
            right = routed.answers == truth_ids(own[0].rows["species"].tolist(), routed.labels)
            assert one.accuracy[i] == pytest.approx(right.mean())
            assert one.ms[i] == pytest.approx(cascade_figures(own, routed)["ms_per_image"])


def test_the_front_is_what_brute_force_finds() -> None:
    tables = pair(2, n=400, skill=3.0, caches=3)
    for table, ms in zip(tables, (1.0, 2.0, 1.5, 30.0), strict=True):
        table.rows["infer_ms"] = ms
    *caches, main = candidates(tables, [Rule()] * 4)
    found = search(caches, main, 0.0)
    every = [order(list(some), main) for n in range(4) for some in itertools.permutations(caches, n)]
    assert {tuple(one.names) for one in found} == {tuple(one.names) for one in every}
    points = front(found)
    for one in every:
        for i in range(len(THRESHOLDS)):
            accuracy, ms = one.accuracy[i], one.ms[i]
            assert any(o.accuracy[k] >= accuracy and o.ms[k] <= ms for o, k in points)
    told = [figures(one, k) for one, k in points]
    assert np.all(np.diff([point["ms"] for point in told]) > 0)
    assert np.all(np.diff([point["accuracy"] for point in told]) > 0)


def test_a_cache_as_slow_as_main_is_used_only_where_it_is_more_accurate() -> None:
    tables = pair(3, n=300, skill=1.0)
    *caches, main = candidates(tables, [Rule()] * 2)
    (fastest, _), *others = front(search(caches, main, 0.0))
    assert fastest.names == ["main"]
    assert others
    assert all(one.caches and one.accuracy[i] > main.right.mean() for one, i in others)


def test_two_caches_that_pay_only_together_are_found() -> None:
    """Each answers 35 of 100 photos; what both need, the preparation, costs half of main."""
    geometries, photos = [candidates(pair(0, n=9), [Rule()] * 2)[0].geometry, (9, 1.0, "square")], np.arange(100)
    first, second = (
        StageModel(
            name,
            geometries[0],
            np.ones(100, bool),
            np.where(mine, 0, len(THRESHOLDS)),
            infer=0.1,
            prepare=10.0,
            decode=0.0,
        )
        for name, mine in (("first", photos < 35), ("second", photos >= 65))
    )
    main = StageModel("main", geometries[1], np.ones(100, bool), np.zeros(100, np.int64), infer=20, prepare=0, decode=0)
    assert {tuple(one.names) for one, _ in front(search([first], main, 1.0))} == {("main",)}
    assert {len(one.caches) for one, _ in front(search([first, second], main, 1.0))} == {2}


def test_caches_of_one_name_are_told_apart() -> None:
    first, second, main = candidates(pair(2, n=50, caches=2), [Rule()] * 3)
    found = search([first, replace(second, name=first.name)], main, 0.0)
    assert sorted(len(one.caches) for one in found) == [0, 1, 1, 2, 2]


def test_perfect_routing_is_a_bound_of_every_design() -> None:
    tables = pair(4, n=400, caches=2)
    tables[-1].rows["infer_ms"] = 50.0
    stages = candidates(tables, [Rule()] * 3)
    accuracy, ms = perfect_routing(stages)
    for one in search(stages[:-1], stages[-1], 0.0):
        assert accuracy >= one.accuracy.max()
    costs = [8.0, 8.0, 53.0]  # decoded, prepared and looked at
    best = [min((not stage.right[i], ms) for stage, ms in zip(stages, costs, strict=True)) for i in range(400)]
    assert accuracy == pytest.approx(np.mean([not wrong for wrong, _ in best]))
    assert ms == pytest.approx(np.mean([ms if not wrong else min(costs) for wrong, ms in best]))


def test_the_best_next_cache_knows_the_next_species_and_never_errs() -> None:
    tables = pair(5, n=600)
    tables[-1].rows["infer_ms"] = 50.0
    *caches, main = candidates(tables, [Rule()] * 2)
    design_ = order(caches, main)
    oracle = best_next(design_, len(THRESHOLDS) - 1, tables[:1], tables)
    assert oracle["species"] == ["s2", "s3"] or oracle["species"] == ["s3", "s2"]
    before = figures(design_, len(THRESHOLDS) - 1)
    assert oracle["accuracy"] > before["accuracy"]
    assert oracle["ms"] < before["ms"]
    assert oracle["communication_rate"] < before["communication_rate"]


# an experiment ------------------------------------------------------------------------------------------------------


def test_it_is_written_so_that_eval_uses_it(experiment: Experiment, lines: Callable[[], list[str]]) -> None:
    config = experiment.config()
    hash_ = read_manifest(config.dataset_dir, config.paths.dst_dataset).hash
    for file in ("model.onnx", "model.int8.onnx"):
        later = cache_colours("Harmonia axyridis")
        write_model(config.models / "cache_0.5_2" / file, later, name="cache_0.5_2", data_hash=hash_)
        write_model(config.models / "stranger" / file, later, name="stranger", data_hash="another")
        write_model(config.models / "main_p50" / file, COLOURS, name="main_p50", data_hash=hash_)
        few = dict(list(COLOURS.items())[:2])
        write_model(config.models / "two" / file, few, name="two", data_hash=hash_)
    result = design(config)
    told = lines()
    assert {line.split(" out: ")[0] for line in told if " leaves " in line} == {
        f"design    leaves {name}" for name in ("stranger", "two")
    }
    folder = config.output / "design"
    told_in_file = json.loads((folder / "design.json").read_text(encoding="utf-8"))
    assert told_in_file == json.loads(json.dumps(result))
    assert result["designs"] == 2 * 2 * 5 * len(THRESHOLDS)  # precisions, mains, orders of two caches
    assert (folder / "design.png").stat().st_size > 10_000
    written = load_config(folder / "config.yaml")
    assert stage_names(written) == result["chosen"]["stages"]
    assert written.route.precision == result["chosen"]["precision"]
    assert written.route.learn_share == 0.5
    assert (written.experiment, written.models, written.output) == ("toy", config.models, config.output)
    assert result["other_only"]["stages"] == ["cache_0.5_0", "main"]
    wanted = max(one["accuracy"] for one in result["main_alone"].values()) - config.route.max_drop
    assert result["chosen"]["accuracy"] >= wanted
    assert written.route.reference == ("" if stage_names(written)[-1] == "main" else "main")
    val = predict_stages(written, learnt_manifest(written), written.route.precision)
    rules = chosen(written, val).rules
    assert result["rules"] == {table.name: rule and asdict(rule) for table, rule in zip(val, rules, strict=True)}
    again = design(config)
    assert {**again, "seconds": 0} == {**result, "seconds": 0}


def test_a_faster_main_takes_its_place_and_is_compared_with_it() -> None:
    tables = pair(6, n=400)
    *caches, main = candidates(tables, [Rule()] * 2)
    main = replace(main, infer=50.0)
    pruned = replace(main, name="main_p50", infer=25.0)
    worse = replace(pruned, name="main_p90", right=np.zeros(400, bool))
    found = [one for last in (main, pruned, worse) for one in search(caches, last, 0.0)]
    best = [one.names[-1] for one, i in front(found) if one.accuracy[i] >= main.right.mean()]
    assert set(best) == {"main_p50"}


def test_another_last_stage_is_promised_against_the_reference(
    experiment: Experiment, lines: Callable[[], list[str]]
) -> None:
    config = experiment.config()
    hash_ = read_manifest(config.dataset_dir, config.paths.dst_dataset).hash
    blind = {name: (9, 9, 9 + i) for i, name in enumerate(COLOURS)}
    for name, colours in (("main_p50", COLOURS), ("main_p90", blind)):
        for file in ("model.onnx", "model.int8.onnx"):
            write_model(config.models / name / file, colours, name=name, data_hash=hash_)
    for name, words in (("main_p50", "less accurate than main ("), ("main_p90", "NOTHING is promised against main: ")):
        for stages in (["cache_0.5_0", name], [name]):
            route = Route(stages=stages, reference="main", max_drop=0.3)
            assert evaluate(config.model_copy(update={"route": route})) == 0
            assert sum(words in line for line in lines()) == 2, stages  # fp32 and int8


@pytest.mark.parametrize("lost", ["main", "cache_0.5_0"])
def test_without_main_or_cache_it_says_what_to_run(experiment: Experiment, lost: str) -> None:
    config = experiment.config()
    for file in ("model.onnx", "model.int8.onnx"):
        (config.models / lost / file).unlink()
    words = f"no exported {'main' if lost == 'main' else 'cache'} in .*; run train.py and quantize.py"
    with pytest.raises(ModelError, match=words):
        design(config)


def test_nothing_is_written_outside_its_folder(experiment: Experiment) -> None:
    config = experiment.config()
    design(config)
    there = {path.relative_to(config.output).parts[0] for path in config.output.rglob("*") if path.is_file()}
    assert there == {"dataset", "predictions", "design"}
    assert isinstance(config.output, Path)
