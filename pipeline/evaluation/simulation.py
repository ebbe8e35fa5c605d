"""Monte Carlo of an experiment: its stored test predictions, one model or the cascade, into result files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.console import log
from pipeline.errors import DataError
from pipeline.evaluation.experiment import part, read_experiment, thresholds, write_csv
from pipeline.evaluation.monte_carlo import Outcome, simulate, summary
from pipeline.evaluation.predict import Predictions, predict_stages, predictions_file
from pipeline.evaluation.routing import route, truth_ids
from pipeline.files import Stamp, read_json, run_once, safe_name, sha256, write_json
from pipeline.labels import LabelSpace


def monte_carlo(config: Config, model: str, prefix: str, input_sizes: Sequence[int] = ()) -> dict[str, Any]:
    """Simulate small (the first cache), big (main) or both (the cascade) on test; writes <prefix>_<model>.json and runs."""
    manifest = read_experiment(config)
    tables = predict_stages(config, manifest, config.route.precision)
    used = {"small": tables[:1], "big": tables[-1:], "both": tables}[model]
    sizes = {table.name: table.card["recipe"]["size"] for table in used}
    if input_sizes and set(sizes.values()) != set(input_sizes):
        told = " ".join(map(str, input_sizes))
        raise DataError(f"--input_size {told} does not fit the models: {sizes}; the recipe fixes the input size")
    chosen = thresholds(config, tables)
    outcome = _outcome(model, part(tables, "test"), chosen)
    name = f"{safe_name(prefix)}_{model}"
    folder = config.output / "monte_carlo"
    outputs = [folder / f"{name}.json", folder / f"{name}_runs.csv"]
    inputs = {
        "predictions": [sha256(predictions_file(config, table.name, config.route.precision)) for table in used],
        "thresholds": chosen,
        "settings": config.monte_carlo.model_dump(),
        "seed": config.seed,
    }
    stamp = Stamp(folder / ".stamps" / f"{name}.json", inputs, outputs)
    run_once(
        "simulate ", stamp, config.global_.overwrite, lambda: _simulate(config, model, outcome, outputs[0], outputs[1])
    )
    result: dict[str, Any] = read_json(outputs[0], "simulation")
    log.info("monte carlo of %s: %d runs of %d test photos", model, result["runs"], result["samples"])
    for name in ("accuracy", "macro_f1", "communication_rate"):
        f = result[name]
        log.info("  %-19s %.4f, 95 %% of the runs in [%.4f, %.4f]", name, f["mean"], f["low_95"], f["high_95"])
    return result


def _simulate(config: Config, model: str, outcome: Outcome, figures: Path, runs: Path) -> None:
    table = simulate(outcome, config.monte_carlo.runs, config.monte_carlo.samples, config.seed)
    result = {
        "model": model,
        "runs": config.monte_carlo.runs,
        "samples": config.monte_carlo.samples,
        "drawn_from": "test",
        "photos": len(outcome.truth),
        "precision": config.route.precision,
        **summary(table),
    }
    write_json(figures, result)
    write_csv(runs, table)


def _outcome(model: str, test: list[Predictions], chosen: list[float]) -> Outcome:
    species = test[0].rows["species"].tolist()
    if model == "both":
        routed = route(test, chosen)
        return Outcome(
            truth_ids(species, routed.labels), routed.answers, routed.stage == len(test) - 1, len(routed.labels)
        )
    table = test[0] if model == "small" else test[-1]
    answers = table.logits.argmax(1).astype(np.int64)
    labels: LabelSpace = table.labels
    sent_on = answers == len(labels) - 1 if labels.has_other else np.ones(len(answers), bool)
    return Outcome(labels.ids(species), answers, sent_on, len(labels))
