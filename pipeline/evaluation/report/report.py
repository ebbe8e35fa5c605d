"""The report of an experiment: report.html (one file), report.md, and their own tables and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.manifest import Manifest, learnt_manifest
from pipeline.dataset.stages.test_sets import FOLDER as TEST_SETS
from pipeline.errors import ConfigError, DataError, did_you_mean
from pipeline.evaluation import charts, plots, posthoc
from pipeline.evaluation.experiment import basis, chosen, part
from pipeline.evaluation.metrics import supports
from pipeline.evaluation.predict import Predictions, predict_stages
from pipeline.evaluation.report import facts, figures, results
from pipeline.evaluation.routing import Rules, route
from pipeline.evaluation.run import evaluation_stamp, variant
from pipeline.evaluation.simulation import scenarios
from pipeline.evaluation.tables import Judged, confusion, judge, judge_cascade
from pipeline.files import Stamp, read_json, run_once, sha256, write_csv, write_text
from pipeline.pages import embedded, markdown, render

HTML, MARKDOWN = (Path(__file__).with_name(f"report.{kind}.jinja") for kind in ("html", "md"))
SECTIONS = [
    ("data", "Data"), ("models", "Models"), ("cascade", "Cascade"), ("species", "Species"), ("seen", "What networks see"),
    ("days", "Other days"), ("posthoc", "A cache without training"), ("every", "All figures"), ("origin", "Origin"),
]  # fmt: skip


def write_report(config: Config) -> Path:
    """Write report.html and report.md below the experiment's output folder, from stored predictions and results alone.

    Results that do not exist yet (simulations, times, corrupted photos) are left out; run their script, then this again.
    """
    metrics = read_json(config.output / "metrics.json", "evaluation (run eval.py with the same --config first)")
    if not evaluation_stamp(config).fresh():
        raise DataError(f"{config.output / 'metrics.json'} does not fit the predictions or settings; run eval.py again")
    page, text = config.output / "report.html", config.output / "report.md"
    inputs = {
        "metrics": sha256(config.output / "metrics.json"),
        "results": {
            str(file): sha256(file)
            for file in [*results.result_files(config), *results.layer_files(config)]
            if file.is_file()
        },
        "test_sets": {file.name: sha256(file) for file in sorted((config.dataset_dir / TEST_SETS).glob("*.parquet"))},
        "settings": config.dump(),
        "templates": [sha256(file) for file in (HTML, MARKDOWN)],
    }
    stamp = Stamp(config.output / ".stamps" / "report.json", inputs, [page, text])
    run_once("report   ", stamp, config.global_.overwrite, lambda: _write(config, metrics, page, text))
    return page


def _write(config: Config, metrics: dict[str, Any], page: Path, text: Path) -> None:
    manifest = learnt_manifest(config)
    tables = predict_stages(config, manifest, config.route.precision)
    test = part(tables, "test")
    rules = chosen(config, tables).rules
    trained, days = _make(config, manifest, test, rules, metrics)
    judged = judge_cascade(test, route(test, rules))
    data = {
        "experiment": config.experiment,
        "photos": len(judged.rows),
        "precision": config.route.precision,
        "settings": yaml.safe_dump(config.dump(), sort_keys=False, allow_unicode=True),
        **facts.of_data(manifest),
        **facts.of_models(metrics, test, config.route.precision),
        **facts.of_species(config, manifest, judged),
        **results.of_results(config, {basis(config), basis(config, rules)}),
        "trained": trained.to_dict("records"),
        "cards_of_models": figures.of_cards(test),
        "days": figures.of_days(days),
        "every": figures.every_figure(metrics),
        "layers": results.layer_pictures(config, test),
        "origin": facts.origin(config, metrics, manifest),
    }
    absent = {"posthoc": not data["trained"], "seen": not (data["layers"] or data["features"])}
    data["sections"] = [one for one in SECTIONS if not absent.get(one[0])]
    data["summary"] = facts.summary(data, metrics)
    data["cards"] = facts.cards(data, metrics)
    folder = config.output / "evaluation" / "plots"
    pictures = {path.stem: embedded(path) for path in sorted(folder.glob("*.png"))}
    write_text(page, render(HTML, pictures=pictures, **data))
    write_text(text, render(MARKDOWN, {"md": markdown}, **data))
    log.info("report    %s (%.1f MB) and report.md", page, page.stat().st_size / 1e6)


def _make(
    config: Config, manifest: Manifest, test: list[Predictions], rules: Rules, metrics: dict[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables and pictures beside those of eval.py; returns the trained caches beside main folded to their labels, and the
    other days."""
    folder, precision = config.output / "evaluation", config.route.precision
    drawings = folder / "plots"
    train = supports(manifest.part("train"), manifest.species())
    species, paths = (test[0].rows[column].tolist() for column in ("species", "image_path"))
    everything = {"the whole test split": np.arange(len(species))}
    everything |= scenarios.test_sets(config.dataset_dir / TEST_SETS, paths) | scenarios.days(
        species, train, config.seed
    )
    other_days = scenarios.measure(everything, test, rules, config.seed)
    write_csv(folder / "scenarios.csv", other_days)
    charts.scenarios(other_days, drawings / "scenarios.png")
    systems = {table.name: judge(table) for table in test} | {"cascade": judge_cascade(test, route(test, rules))}
    figures_of = {name: both[precision] for name, both in metrics["models"].items()}
    figures_of["cascade"] = metrics["cascade"][precision]
    ece = {name: found["ece"] for name, found in figures_of.items() if "ece" in found}
    charts.calibration({name: systems[name] for name in ece}, ece, drawings / "calibration.png")
    charts.thresholds(test, rules, drawings / "thresholds.png")
    write_csv(
        folder / "curves.csv", named_curves(config.report.curves, test[-1].name, systems, drawings / "curves.png")
    )
    plots.whole_confusion(confusion(systems["cascade"]), "cascade", drawings / "confusion_all.png")
    for table in test:
        one, place = systems[table.name], folder / variant(table.name, precision)
        plots.worst_and_best(one.truth, one.answers, one.labels, table.name, place / "class_f1_scores.png")
        plots.whole_confusion(confusion(one), table.name, place / "confusion_matrix.png")
    charts.pareto(figures.speeds(metrics), drawings / "pareto.png")
    return pd.DataFrame() if test[-1].labels.has_other else _fold(config, manifest, test), other_days


def named_curves(named: list[str], last: str, systems: dict[str, Judged], path: Path) -> pd.DataFrame:
    """charts.curves of the last stage; a name that is none of its labels is a ConfigError, one without photos is told."""
    judged = systems[last]
    if foreign := [name for name in named if name not in judged.labels.names]:
        hint = did_you_mean(foreign[0], judged.labels.names, "its labels are in its model.json")
        raise ConfigError(f"report.curves: {last} does not know {foreign[0]!r}; {hint}")
    found = charts.curves(judged, path, named)
    if absent := [name for name in named if name not in found["species"].tolist()]:
        log.warning("report    no curve of %s: no test photo is of it", ", ".join(absent))
    return found


def _fold(config: Config, manifest: Manifest, test: list[Predictions]) -> pd.DataFrame:
    """Main folded to every cache's labels, beside the caches that were trained."""
    folder = config.output / "evaluation"
    folded = posthoc.every_threshold(config.labels, manifest, test[-1])
    trained = posthoc.beside_trained([t for t in test if t.labels.has_other], test[-1], config.seed)
    write_csv(folder / "posthoc.csv", folded)
    write_csv(folder / "posthoc_trained.csv", trained)
    if len(folded):
        charts.post_hoc(folded, trained, folder / "plots" / "posthoc.png")
    return trained
