"""Evaluate an experiment: predict once, choose thresholds on val, report on test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config import Config, save_config
from pipeline.console import log
from pipeline.dataset.manifest import Manifest
from pipeline.errors import DataError
from pipeline.evaluation import plots
from pipeline.evaluation.experiment import part, read_experiment, thresholds, unreadable, with_interval, write_csv
from pipeline.evaluation.metrics import headline, model_figures, paired_difference, species_report, supports
from pipeline.evaluation.predict import Predictions, model_file, predict_stages, predictions_file, stage_names
from pipeline.evaluation.routing import Routed, cascade_figures, route, truth_ids
from pipeline.files import Stamp, digest, run_once, sha256, write_json
from pipeline.models.checkpoint import versions

PRECISIONS = ("fp32", "int8")


def evaluate(config: Config) -> int:
    """Write metrics.json, a report per model, and plots below the experiment's output folder, unless they are up to date.

    Returns how many photos could not be read any more.
    """
    manifest = read_experiment(config)
    tables = {precision: predict_stages(config, manifest, precision) for precision in PRECISIONS}
    stamp = evaluation_stamp(config)
    run_once("eval     ", stamp, config.global_.overwrite, lambda: _evaluate(config, manifest, tables))
    bad = unreadable(tables["fp32"][0])
    for path, reason in list(bad.items())[:10]:
        log.warning("  bad photo %s: %s", path, reason)
    return len(bad)


def evaluation_stamp(config: Config) -> Stamp:
    """What the evaluation depends on, and all that it writes."""
    names = stage_names(config)
    files = [predictions_file(config, name, precision) for name in names for precision in PRECISIONS]
    if missing := [file for file in files if not file.is_file()]:
        raise DataError(f"no predictions at {missing[0]}; run eval.py with the same --config first")
    inputs = {"predictions": [sha256(file) for file in files], "route": config.route.model_dump(), "seed": config.seed}
    folder = config.output / "evaluation"
    reports = [_report_file(folder, name, precision) for name in names for precision in PRECISIONS]
    pictures = [folder / "plots" / name for name in plots.PICTURES]
    outputs = [config.output / "metrics.json", config.output / "config.yaml", folder / "report_cascade.csv"]
    return Stamp(config.output / ".stamps" / "eval.json", inputs, [*outputs, *reports, *pictures])


def _report_file(folder: Path, name: str, precision: str) -> Path:
    return folder / f"report_{name}{'.int8' if precision == 'int8' else ''}.csv"


def _evaluate(config: Config, manifest: Manifest, predictions: dict[str, list[Predictions]]) -> None:
    result: dict[str, Any] = {
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
    for precision, tables in predictions.items():
        test = part(tables, "test")
        for table in test:
            result["models"].setdefault(table.name, {})[precision] = _model(config, manifest, table, precision, folder)
        chosen = thresholds(config, tables)
        routed = route(test, chosen)
        result["cascade"][precision] = _cascade(config, test, routed, chosen)
        if precision == config.route.precision:
            _report(manifest, test, routed, folder / "report_cascade.csv")
            plots.draw(folder / "plots", tables, chosen, routed)
    for name in stage_names(config):
        _agreement(result["models"][name])
    write_json(config.output / "metrics.json", result)
    save_config(config, config.output / "config.yaml")
    _tell(result, config)


def _model(config: Config, manifest: Manifest, table: Predictions, precision: str, folder: Path) -> dict[str, Any]:
    truth = table.labels.ids(table.rows["species"].tolist())
    figures = model_figures(truth, table.logits, table.labels, config.seed)
    file = model_file(config, table.name, precision)
    figures |= {
        "bytes": file.stat().st_size,
        "sha256": sha256(file),
        "infer_ms": float(table.rows["infer_ms"].median()),
    }
    totals = supports(manifest.rows[manifest.rows["ok"]], table.labels)
    train = supports(manifest.part("train"), table.labels)
    report = species_report(truth, table.logits.argmax(1), table.labels, totals, train)
    write_csv(_report_file(folder, table.name, precision), report)
    return figures


def _report(manifest: Manifest, test: list[Predictions], routed: Routed, path: Path) -> None:
    truth = truth_ids(test[0].rows["species"].tolist(), routed.labels)
    totals = supports(manifest.rows[manifest.rows["ok"]], routed.labels)
    known = truth >= 0
    write_csv(
        path,
        species_report(
            truth[known], routed.answers[known], routed.labels, totals, supports(manifest.part("train"), routed.labels)
        ),
    )


def _cascade(config: Config, test: list[Predictions], routed: Routed, chosen: list[float]) -> dict[str, Any]:
    truth = truth_ids(test[0].rows["species"].tolist(), routed.labels)
    main = test[-1].logits.argmax(1)
    alone = truth_ids(test[-1].rows["species"].tolist(), test[-1].labels)
    return {
        "thresholds": dict(zip(stage_names(config), chosen, strict=True)),
        "thresholds_chosen_on": "val" if config.route.threshold == "auto" else "config",
        **headline(truth, routed.answers, len(routed.labels), config.seed),
        "main_alone_accuracy": float((main == alone).mean()),
        "accuracy_minus_main": paired_difference(routed.answers == truth, main == alone, config.seed),
        **cascade_figures(test, routed),
    }


def _agreement(figures: dict[str, Any]) -> None:
    figures["int8_minus_fp32_accuracy"] = figures["int8"]["accuracy"] - figures["fp32"]["accuracy"]
    figures["size_ratio"] = figures["fp32"]["bytes"] / figures["int8"]["bytes"]


def _tell(result: dict[str, Any], config: Config) -> None:
    """The table that a person reads."""
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
        log.info(
            "  %-16s %s accuracy %s, macro F1 %s, main alone %.4f, %.1f %% go on to main, %.1f ms per photo (main alone %.1f)",
            "cascade", precision, with_interval(c, "accuracy"), with_interval(c, "macro_f1"), c["main_alone_accuracy"],
            100 * c["communication_rate"], c["ms_per_image"], c["ms_per_image_main_alone"],
        )  # fmt: skip
    log.info(
        "eval      figures: %s, reports and plots: %s", config.output / "metrics.json", config.output / "evaluation"
    )
