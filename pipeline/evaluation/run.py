"""Evaluate an experiment: predict once, choose thresholds on val, report on test; or score it on another folder."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config import Config, save_config
from pipeline.console import log
from pipeline.dataset.manifest import Manifest, read_manifest
from pipeline.edge.cascade import Cascade, Stage
from pipeline.edge.classify import find
from pipeline.edge.model import Model
from pipeline.errors import DataError
from pipeline.evaluation import plots
from pipeline.evaluation.metrics import headline, model_figures, species_report, supports
from pipeline.evaluation.monte_carlo import Outcome, simulate, summary
from pipeline.evaluation.predict import Predictions, model_file, predict, predict_stages, predictions_file, stage_names
from pipeline.evaluation.routing import Routed, cascade_figures, choose_thresholds, route, truth_ids
from pipeline.evaluation.speed import compare_speed
from pipeline.files import Stamp, digest, read_json, replacing, run_once, safe_name, sha256, write_json
from pipeline.labels import LabelSpace
from pipeline.models.checkpoint import versions

PRECISIONS = ("fp32", "int8")


def read_experiment(config: Config) -> Manifest:
    """The manifest of the experiment."""
    return read_manifest(config.dataset_dir, config.paths.dst_dataset)


def thresholds(config: Config, tables: list[Predictions]) -> list[float]:
    """One per stage: as configured, or chosen on val; main always answers."""
    if config.route.threshold == "auto":
        return choose_thresholds(_part(tables, "val"), config.route.max_drop)
    return [config.route.threshold] * (len(tables) - 1) + [0.0]


def _part(tables: list[Predictions], split: str) -> list[Predictions]:
    parts = [table.part(split) for table in tables]
    if parts[0].rows.empty:
        raise DataError(
            f"the {split} part has no photo that can be read; check train_val_split.train_size and val_size, "
            "and that the photos of the manifest are still there"
        )
    return parts


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


def unreadable(table: Predictions) -> dict[str, str]:
    """Photos without an answer, and why."""
    bad = table.rows[table.rows["reason"] != ""]
    return dict(zip(bad["image_path"], bad["reason"], strict=True))


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
        test = _part(tables, "test")
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
    _write_csv(_report_file(folder, table.name, precision), report)
    return figures


def _report(manifest: Manifest, test: list[Predictions], routed: Routed, path: Path) -> None:
    truth = truth_ids(test[0].rows["species"].tolist(), routed.labels)
    totals = supports(manifest.rows[manifest.rows["ok"]], routed.labels)
    known = truth >= 0
    _write_csv(
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
        "accuracy_minus_main": _paired(routed.answers == truth, main == alone, config.seed),
        **cascade_figures(test, routed),
    }


def _paired(a: Any, b: Any, seed: int) -> dict[str, float]:
    """Difference of two accuracies on the same photos, with its 95 % bootstrap interval."""
    difference = a.astype(float) - b.astype(float)
    rng = np.random.default_rng(seed)
    draws = [difference[rng.integers(0, len(difference), len(difference))].mean() for _ in range(1000)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"mean": float(difference.mean()), "low_95": float(low), "high_95": float(high)}


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
                _with_range(m, "accuracy"), _with_range(m, "macro_f1"), m["bytes"] / 1e6, m["infer_ms"], extra,
            )  # fmt: skip
    for precision, c in result["cascade"].items():
        log.info(
            "  %-16s %s accuracy %s, macro F1 %s, main alone %.4f, %.1f %% go on to main, %.1f ms per photo (main alone %.1f)",
            "cascade", precision, _with_range(c, "accuracy"), _with_range(c, "macro_f1"), c["main_alone_accuracy"],
            100 * c["communication_rate"], c["ms_per_image"], c["ms_per_image_main_alone"],
        )  # fmt: skip
    log.info(
        "eval      figures: %s, reports and plots: %s", config.output / "metrics.json", config.output / "evaluation"
    )


def _with_range(figures: dict[str, Any], name: str) -> str:
    low, high = figures[f"{name}_95"]
    return f"{figures[name]:.4f} [{low:.3f}, {high:.3f}]"


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")


def speed(config: Config, photos: int) -> dict[str, Any]:
    """Cascade against main alone on test photos, photo by photo in one run on one thread; writes speed.json."""
    manifest = read_experiment(config)
    precision = config.route.precision
    chosen = thresholds(config, predict_stages(config, manifest, precision))
    rows = manifest.part("test")
    rows = rows.sample(min(photos, len(rows)), random_state=config.seed)
    stages = [
        Stage(name, Model(model_file(config, name, precision), threads=1), threshold)
        for name, threshold in zip(stage_names(config), chosen, strict=True)
    ]
    paths = [manifest.root / path for path in rows["image_path"]]
    result = {"precision": precision, **compare_speed(Cascade(stages), Cascade(stages[-1:]), paths)}
    write_json(config.output / "speed.json", result)
    log.info(
        "speed     %d photos, %s, one thread: cascade %.2f ms, main alone %.2f ms per photo "
        "(medians %.2f and %.2f), %.2f times as fast",
        result["photos"], precision, result["cascade"]["mean"], result["main"]["mean"],
        result["cascade"]["p50"], result["main"]["p50"], result["speed_up"],
    )  # fmt: skip
    return result


# another labelled folder --------------------------------------------------------------------------------------------


def evaluate_folder(config: Config, root: Path) -> dict[str, Any]:
    """Score models and cascade on <...>/<species>/<photo> below root; species joined by name, unknown ones counted apart.

    The thresholds are those of the experiment (val). Writes output/<experiment>/evaluation/images_<folder>.json.
    """
    rows = labelled_photos(root)
    tables = predict_stages(config, read_experiment(config), config.route.precision)
    chosen = thresholds(config, tables)
    there = [
        predict(Model(model_file(config, name, config.route.precision)), root, rows, digest(rows.to_dict("list")))
        for name in stage_names(config)
    ]
    bad = unreadable(there[0])
    there = [table.part("") for table in there]
    routed = route(there, chosen)
    truth = truth_ids(there[0].rows["species"].tolist(), routed.labels)
    known = truth >= 0
    result: dict[str, Any] = {
        "folder": root.resolve().name,
        "photos": len(rows),
        "unreadable": bad,
        "known_species": sorted(set(there[0].rows["species"][known])),
        "unknown_species": sorted(set(there[0].rows["species"][~known])),
        "photos_of_unknown_species": int((~known).sum()),
        "unknown_sent_on": float((routed.stage[~known] == len(there) - 1).mean()) if (~known).any() else None,
        "models": {},
    }
    for table in there:
        result["models"][table.name] = _on_known(table, known, config.seed)
    if known.any():
        result["cascade"] = headline(truth[known], routed.answers[known], len(routed.labels), config.seed)
        result["cascade"]["communication_rate"] = float((routed.stage[known] == len(there) - 1).mean())
    path = config.output / "evaluation" / f"images_{safe_name(root.resolve().name)}.json"
    write_json(path, result)
    log.info(
        "eval      %s: %d photos, %d of %d unknown species apart, %d unreadable",
        root, len(rows), result["photos_of_unknown_species"], len(result["unknown_species"]), len(bad),
    )  # fmt: skip
    for name, figures in [*result["models"].items(), *([("cascade", result["cascade"])] if known.any() else [])]:
        if figures:
            log.info(
                "  %-16s accuracy %s on %d photos of known species",
                name,
                _with_range(figures, "accuracy"),
                figures["photos"],
            )
    log.info("eval      figures: %s", path)
    return result


def _on_known(table: Predictions, known: Any, seed: int) -> dict[str, Any] | None:
    if not known.any():
        return None
    part = table.rows["species"][known].tolist()
    names = set(table.labels.names)
    if not table.labels.has_other and not set(part) <= names:
        raise DataError(f"{table.name} does not know {sorted(set(part) - names)[0]!r}, which a cache answers")
    return model_figures(table.labels.ids(part), table.logits[known], table.labels, seed)


def labelled_photos(root: Path) -> pd.DataFrame:
    """Photos below root whose folder's name is their species: image_path, species, split ("")."""
    files = [path for path in find([str(root)]) if path.parent != root] if root.is_dir() else []
    if not files:
        raise DataError(f"no photos in species folders below {root}; expected <species>/<photo>.jpg")
    rows = [(str(path.relative_to(root)), unicodedata.normalize("NFC", path.parent.name), "") for path in files]
    return pd.DataFrame(rows, columns=["image_path", "species", "split"])


# simulation ---------------------------------------------------------------------------------------------------------


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
    outcome = _outcome(model, _part(tables, "test"), chosen)
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
    _write_csv(runs, table)


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
