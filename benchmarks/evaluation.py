#!/usr/bin/env python3
"""Time the simulation and the report on an evaluated experiment, beside running the networks again for every draw."""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sklearn.metrics import accuracy_score, f1_score, top_k_accuracy_score

from pipeline.config import Config
from pipeline.console import configuration, log, parser, run
from pipeline.dataset.manifest import Manifest, experiment_manifest
from pipeline.edge.model import Model
from pipeline.edge.recipe import decode, preprocess
from pipeline.evaluation.experiment import chosen, part
from pipeline.evaluation.metrics import model_figures
from pipeline.evaluation.predict import (
    Predictions,
    load_predictions,
    model_file,
    predict,
    predict_stages,
    predictions_file,
    predictions_stamp,
    save_predictions,
    stage_names,
)
from pipeline.evaluation.report.report import write_report
from pipeline.evaluation.routing import Rules
from pipeline.evaluation.run import PRECISIONS, evaluate
from pipeline.evaluation.simulation.monte_carlo import Day, simulate
from pipeline.evaluation.simulation.subjects import cascade_subject
from pipeline.files import sha256, write_json
from pipeline.models.checkpoint import versions

RESULT = Path(__file__).parent / "results" / "evaluation.json"
EXAMPLES = "  evaluation.py --config configs/haute_garonne_insecta.yaml      after run.py with the same --config"


def seconds(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What the work gives, and its time; on a machine with other work, that of the processor counts."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


def again_for_every_draw(config: Config, manifest: Manifest, rules: Rules, runs: int, samples: int) -> float:
    """The predecessors' way, written plainly: each draw is decoded and sent through cache and, if need be, main."""
    rows = manifest.part("test")
    stages = [Model(model_file(config, name, config.route.precision), threads=1) for name in stage_names(config)]
    right = 0
    for r in range(runs):
        for i in np.random.default_rng([config.seed, r]).integers(0, len(rows), samples):
            for model, rule in zip(stages, rules, strict=True):
                if rule is None:
                    continue
                photo = decode(
                    manifest.root / rows["image_path"][i], model.recipe.decode_side
                )  # once per stage, as they did
                score, p = rule.scores(model.logits(preprocess(photo, model.recipe)[None])[0], model.labels)
                if score >= rule.threshold:
                    right += model.labels[int(p.argmax())] == rows["species"][i]
                    break
    return right / (runs * samples)


def work(arguments: argparse.Namespace) -> None:
    config = configuration(arguments)
    manifest = experiment_manifest(config)
    tables = predict_stages(config, manifest, config.route.precision)
    rules, test = chosen(config, tables).rules, part(tables, "test")
    subject = cascade_subject(test, rules, manifest.species())
    species = manifest.species().ids(test[0].rows["species"].tolist())

    def ours(runs: int, samples: int, cells: int = 2_000_000) -> pd.DataFrame:
        return simulate(subject.sample, Day(species, samples), runs, config.seed, cells).runs

    def first_time() -> pd.DataFrame:
        with tempfile.TemporaryDirectory() as folder:
            for name in stage_names(config):
                model = Model(model_file(config, name, config.route.precision), threads=1)
                found = predict(model, manifest.root, manifest.part("test"), manifest.hash)
                save_predictions(Path(folder) / f"{name}.parquet", found)
        return ours(10, 500)

    result: dict[str, Any] = {"photos": len(species), "species": len(manifest.species()), "versions": versions()}
    result["manifest"] = manifest.hash
    result["against_scikit_learn"] = beside_scikit_learn(test[-1], config.seed)
    _, result["ours_stored"] = seconds(lambda: ours(10, 500))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    many, result["simulation_10000x1000"] = seconds(lambda: ours(10_000, 1_000))
    result["simulation_10000x1000"] |= {
        "peak_mb_before": before / 1024,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "same_for_other_chunks": all(many[:500].equals(ours(500, 1_000, cells)) for cells in (1, 50_000, 700_000)),
    }
    with tempfile.TemporaryDirectory() as folder:
        more = with_a_third_model(config, Path(folder))
        evaluate(more)
        page, result["report"] = seconds(lambda: write_report(more))
        result["report"] |= {"mb": page.stat().st_size / 1e6, "model_files": 2 * len(stage_names(more)), "cascades": 2}
    write_json(RESULT, result)
    first, result["ours_first_time"] = seconds(first_time)
    result["ours_first_time"]["accuracy"] = float(first["accuracy"].mean())
    plain, result["users_way_10x500"] = seconds(lambda: again_for_every_draw(config, manifest, rules, 10, 500))
    result["users_way_10x500"]["accuracy"] = plain
    for name in ("ours_first_time", "ours_stored"):
        result[name]["times_as_fast"] = result["users_way_10x500"]["cpu_s"] / result[name]["cpu_s"]
    write_json(RESULT, result)
    log.info("%s", json.dumps(result, indent=2))


def with_a_third_model(config: Config, folder: Path) -> Config:
    """A copy of the experiment in which its first cache comes twice, the second time with noise in its logits."""
    shutil.copytree(config.models, folder / "models" / config.experiment)
    shutil.copytree(config.output, folder / "output" / config.experiment)
    first, *others = stage_names(config)
    noisy = f"{first}_noisy"
    paths = config.paths.model_copy(update={"models_dir": folder / "models", "output_dir": folder / "output"})
    route = config.route.model_copy(update={"stages": [first, noisy, *others]})
    more = config.model_copy(update={"paths": paths, "route": route})
    shutil.copytree(more.models / first, more.models / noisy)
    for precision in PRECISIONS:
        source, target = model_file(more, noisy, precision), predictions_file(more, noisy, precision)
        known = predictions_file(more, first, precision)
        table = load_predictions(known)
        logits = table.logits + np.random.default_rng(config.seed).normal(0, 1, table.logits.shape).astype(np.float32)
        save_predictions(target, Predictions(table.rows, logits, {**table.card, "name": noisy}, table.data_hash))
        predictions_stamp(target, sha256(source), table.data_hash).write()  # as if predicted
        shutil.copystat(known, target)  # no younger than the simulations and times
    return more


def beside_scikit_learn(main: Any, seed: int) -> dict[str, float]:
    """Largest difference between our figures of main and scikit-learn's on the same arrays."""
    truth, answers = main.labels.ids(main.rows["species"].tolist()), main.logits.argmax(axis=1)
    ours, every = model_figures(truth, main.logits, main.labels, seed), range(len(main.labels))
    theirs = {"accuracy": accuracy_score(truth, answers)}
    theirs |= {f"top{k}": top_k_accuracy_score(truth, main.logits, k=k, labels=every) for k in (3, 5)}
    theirs |= {
        f"{mean}_f1": f1_score(truth, answers, labels=np.unique(truth), average=mean) for mean in ("macro", "weighted")
    }
    return {name: abs(ours[name] - value) for name, value in theirs.items()}


if __name__ == "__main__":
    sys.exit(run(work, parser(__doc__ or "", EXAMPLES).parse_args()))
