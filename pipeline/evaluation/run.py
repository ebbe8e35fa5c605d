"""Evaluate an experiment: predict once, choose thresholds on val, report on test."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.config import Config, save_config
from pipeline.console import log
from pipeline.dataset.manifest import Manifest, learnt_manifest
from pipeline.errors import DataError
from pipeline.evaluation import plots
from pipeline.evaluation.choosing.choice import Choice
from pipeline.evaluation.experiment import chosen, part, unreadable, users_report, with_interval
from pipeline.evaluation.metrics import Ratios, headline, model_figures, paired_difference, supports
from pipeline.evaluation.predict import (
    Predictions,
    asked_names,
    model_file,
    predict_stages,
    predictions_file,
    stage_names,
)
from pipeline.evaluation.routing import Routed, cascade_figures, route, truth_ids
from pipeline.evaluation.tables import FORMAT_VERSION, TABLES, Judged, judge, judge_cascade, write_tables
from pipeline.files import Stamp, digest, run_once, sha256, write_csv, write_json
from pipeline.models.checkpoint import versions

PRECISIONS = ("fp32", "int8")


def evaluate(config: Config) -> int:
    """Write metrics.json, a report and tables per model, and plots below the experiment's output folder, where not up to date.

    Returns how many photos could not be read any more.
    """
    manifest = learnt_manifest(config)
    tables = {precision: predict_stages(config, manifest, precision) for precision in PRECISIONS}
    stamp = evaluation_stamp(config)
    run_once("eval     ", stamp, config.global_.overwrite, lambda: _evaluate(config, manifest, tables))
    bad = unreadable(tables["fp32"][0])
    for path, reason in list(bad.items())[:10]:
        log.warning("  bad photo %s: %s", path, reason)
    return len(bad)


def evaluation_stamp(config: Config) -> Stamp:
    """The stamp of the evaluation: its inputs and its outputs."""
    names = stage_names(config)
    files = [predictions_file(config, name, precision) for name in asked_names(config) for precision in PRECISIONS]
    if missing := [file for file in files if not file.is_file()]:
        raise DataError(f"no predictions at {missing[0]}; run eval.py with the same --config first")
    inputs = {
        "predictions": [sha256(file) for file in files],
        "route": config.route.model_dump(),
        "seed": config.seed,
        "format": FORMAT_VERSION,
    }
    folder = config.output / "evaluation"
    judged = [*(variant(name, precision) for name in names for precision in PRECISIONS), "cascade"]
    reports = [folder / f"report_{name}.csv" for name in judged]
    details = [folder / name / table for name in judged for table in TABLES]
    pictures = [folder / "plots" / name for name in plots.PICTURES]
    outputs = [config.output / "metrics.json", config.output / "config.yaml", *reports, *details, *pictures]
    return Stamp(config.output / ".stamps" / "eval.json", inputs, outputs)


def variant(name: str, precision: str) -> str:
    """Name of a model's tables and pictures in this precision."""
    return f"{name}{'.int8' if precision == 'int8' else ''}"


def _evaluate(config: Config, manifest: Manifest, predictions: dict[str, list[Predictions]]) -> None:
    result: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "experiment": config.experiment,
        "split": "test",
        "manifest": manifest.hash,
        "config": digest(config.dump()),
        "versions": versions(),
        "unreadable": unreadable(predictions["fp32"][0]),
        "models": {},
        "cascade": {},
    }
    folder = config.output / "evaluation"
    right: dict[str, dict[str, pd.Series[bool]]] = {}
    for precision, tables in predictions.items():
        test = part(tables, "test")
        for table in test:
            judged = judge(table)
            figures = _model(config, manifest, table, judged, precision, folder)
            result["models"].setdefault(table.name, {})[precision] = figures
            right.setdefault(table.name, {})[precision] = pd.Series(judged.right, judged.rows["image_path"])
        choice = chosen(config, tables, precision)
        log.info("eval      %s: %s", precision, choice.told)
        routed = route(test, choice.rules)
        judged = judge_cascade(test, routed)
        result["cascade"][precision] = _cascade(config, manifest, test, routed, judged, choice)
        if precision == config.route.precision:
            _write(manifest, judged, folder, "cascade")
            plots.draw(folder / "plots", tables, choice.rules, routed)
    for name in stage_names(config):
        result["models"][name] |= _int8_beside_fp32(result["models"][name], right[name], config.seed)
    write_json(config.output / "metrics.json", result)
    save_config(config, config.output / "config.yaml")
    _tell(result, config)


def _model(
    config: Config, manifest: Manifest, table: Predictions, judged: Judged, precision: str, folder: Path
) -> dict[str, Any]:
    train = supports(manifest.part("train"), table.labels)
    figures = model_figures(judged.truth, table.logits, table.labels, config.seed, train)
    file = model_file(config, table.name, precision)
    figures |= {
        "bytes": file.stat().st_size,
        "sha256": sha256(file),
        "infer_ms": float(table.rows["infer_ms"].median()),
    }
    _write(manifest, judged, folder, variant(table.name, precision))
    return figures


def _write(manifest: Manifest, judged: Judged, folder: Path, name: str) -> None:
    """The users' report and the tables of one model or of the cascade."""
    write_csv(folder / f"report_{name}.csv", users_report(manifest, judged.truth, judged.answers, judged.labels))
    write_tables(folder / name, judged)


def _cascade(
    config: Config, manifest: Manifest, test: list[Predictions], routed: Routed, judged: Judged, choice: Choice
) -> dict[str, Any]:
    alone = None
    if routed.main >= 0:
        main = test[routed.main]
        alone = main.logits.argmax(1) == truth_ids(main.rows["species"].tolist(), main.labels)
    flow = cascade_figures(test, routed)
    figures = headline(
        judged.truth, judged.answers, judged.labels, config.seed,
        train=supports(manifest.part("train"), judged.labels), ratios=_flow(judged, routed, alone),
        confidence=judged.confidence,
    )  # fmt: skip
    for k, stage in enumerate(flow["stages"]):
        for name in ("hit_rate", "accuracy", "error_rate"):
            value, range_ = figures.pop(f"{k}_{name}"), figures.pop(f"{k}_{name}_95")
            answers = stage["photos"] or name == "hit_rate"
            stage |= {name: value, f"{name}_95": range_} if answers else {name: None}
    if alone is not None:
        figures["accuracy_minus_main"] = paired_difference(judged.right, alone, config.seed)
    return {
        "rules": {table.name: rule and asdict(rule) for table, rule in zip(test, choice.rules, strict=True)},
        "rules_chosen_on": choice.chosen_on,
        "promise": choice.told,
        **flow,
        **figures,
    }


def _flow(judged: Judged, routed: Routed, alone: NDArray[np.bool_] | None) -> Ratios:
    """Ratios of the cascade as numerators and denominators per photo: what is sent on, and hits and errors per stage."""
    everything = np.ones(len(judged.truth))
    ratios: Ratios = {
        "communication_rate": (routed.sent_on, everything),
        "saving_rate": (~routed.sent_on, everything),
        "unknown_rate": (routed.answers < 0, everything),
    }
    if alone is not None:
        ratios["main_alone_accuracy"] = (alone, everything)
    for k in range(len(routed.on)):
        mine = routed.answered(k)
        ratios[f"{k}_hit_rate"] = (mine, everything)
        ratios[f"{k}_accuracy"] = (mine & judged.right, mine)
        ratios[f"{k}_error_rate"] = (mine & ~judged.right, mine)
    return ratios


def _int8_beside_fp32(figures: dict[str, Any], right: dict[str, pd.Series[bool]], seed: int) -> dict[str, Any]:
    """Difference of the accuracies, paired on the photos that both could read, and ratio of the files' sizes."""
    a, b = right["int8"].align(right["fp32"], join="inner")
    difference = paired_difference(a.to_numpy(bool), b.to_numpy(bool), seed)
    return {
        "int8_minus_fp32_accuracy": difference["mean"],
        "int8_minus_fp32_accuracy_95": [difference["low_95"], difference["high_95"]],
        "size_ratio": figures["fp32"]["bytes"] / figures["int8"]["bytes"],
    }


def _tell(result: dict[str, Any], config: Config) -> None:
    """Log a readable table."""
    log.info("eval      %d test photos, no choice was made on them", next(iter(result["cascade"].values()))["photos"])
    for name, both in result["models"].items():
        for precision in PRECISIONS:
            m = both[precision]
            extra = ""
            if "hit_precision" in m:
                extra = f", hits {m['hit_share']:.1%} with precision {m['hit_precision']:.3f}"
                extra += f" (always Other: {m['always_other_accuracy']:.3f})"
            log.info(
                "  %-16s %s accuracy %s, macro F1 %s, %.2f MB, %.1f ms%s", name, precision,
                with_interval(m, "accuracy"), with_interval(m, "macro_f1"), m["bytes"] / 1e6, m["infer_ms"], extra,
            )  # fmt: skip
    for precision, c in result["cascade"].items():
        alone = ""
        if "main_alone_accuracy" in c:
            alone = f" (main alone {c['main_alone_accuracy']:.4f}, {c['ms_per_image_main_alone']:.1f} ms)"
        log.info(
            "  %-16s %s accuracy %s, macro F1 %s, %.1f %% %s, %.1f ms per photo%s", "cascade", precision,
            with_interval(c, "accuracy"), with_interval(c, "macro_f1"), 100 * c["communication_rate"],
            "go on to main" if alone else "get no answer", c["ms_per_image"], alone,
        )  # fmt: skip
    log.info(
        "eval      figures: %s, reports and plots: %s", config.output / "metrics.json", config.output / "evaluation"
    )
