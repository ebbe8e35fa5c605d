"""Run the Monte Carlo simulation of an experiment, for one model or a cascade, and write the result files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.manifest import Manifest, learnt_manifest
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation import plots
from pipeline.evaluation.experiment import basis, chosen, part, users_report
from pipeline.evaluation.predict import EVALUATED, Predictions, predict_file, predict_stages, predictions_file
from pipeline.evaluation.routing import Rules
from pipeline.evaluation.simulation.mixes import species_mix
from pipeline.evaluation.simulation.monte_carlo import Day, runs_enough, simulate, storage, summary
from pipeline.evaluation.simulation.subjects import CASCADES, Subject, cascade_subject, model_subject
from pipeline.evaluation.tables import FORMAT_VERSION
from pipeline.files import Stamp, read_json, run_once, safe_name, sha256, write_csv, write_json

TOLD = ("accuracy", "macro_f1", "communication_rate", "outside_rate")
ENOUGH = 0.002  # target half-width of the 95 % interval of a mean
OUTSIDE_ROW = "(no answer, or none of this data set)"


def monte_carlo(config: Config, model: str, prefix: str, input_sizes: Sequence[int] = ()) -> dict[str, Any]:
    """Simulate days of one model or cascade; writes <prefix>_<model>.json, its runs, pooled report and pictures.

    model: small (the first cache), big (main), both (the cascade), caches (the cascade without main), a stage's name, or
    an ONNX file of another label set, whose answers that are no species of this data set count as outside.
    """
    manifest = learnt_manifest(config)
    tables = predict_stages(config, manifest, config.route.precision)
    rules = chosen(config, tables).rules if model in CASCADES else []
    used, files = _used(config, manifest, model, tables)
    sizes = {table.name: table.card["recipe"]["size"] for table in used}
    if input_sizes and set(sizes.values()) != set(input_sizes):
        told = " ".join(map(str, input_sizes))
        raise DataError(f"--input_size {told} does not fit the models: {sizes}; the recipe fixes the input size")
    name = f"{safe_name(prefix)}_{safe_name(model)}"
    folder = config.output / "monte_carlo"
    outputs = [
        folder / f"{name}{end}" for end in (".json", "_runs.csv", "_report.csv", "_convergence.png", "_confusion.png")
    ]
    settings, fits = config.monte_carlo, basis(config, rules)
    inputs = {
        "predictions": [sha256(file) for file in files],
        "basis": fits,
        "settings": settings.model_dump(mode="json"),
        "mix": [sha256(file) for file in (settings.observed, settings.dates) if file and file.is_file()],
        "manifest": manifest.hash,
        "seed": config.seed,
        "format": FORMAT_VERSION,
    }
    stamp = Stamp(folder / ".stamps" / f"{name}.json", inputs, outputs)

    def work() -> None:
        _simulate(config, manifest, model, part(used, settings.split), rules, fits, outputs)

    run_once("simulate ", stamp, config.global_.overwrite, work)
    result: dict[str, Any] = read_json(outputs[0], "simulation")
    _tell(model, result)
    return result


def _used(
    config: Config, manifest: Manifest, model: str, tables: list[Predictions]
) -> tuple[list[Predictions], list[Path]]:
    """The predictions of a simulation, and their files."""
    if model.endswith(".onnx"):
        file = (
            config.output / "predictions" / f"outside_{safe_name(Path(model).stem)}.{config.monte_carlo.split}.parquet"
        )
        return [predict_file(Path(model), manifest, config.monte_carlo.split, file)], [file]
    caches = [table for table in tables if table.labels.has_other]
    main = [table for table in tables if not table.labels.has_other]
    stages = {"small": caches[:1], "big": main, "both": tables, "caches": caches}
    stages |= {table.name: [table] for table in tables}
    if model not in stages:
        raise ConfigError(f"no model {model!r} to simulate; choose of {', '.join(stages)}, or an .onnx file")
    if not stages[model]:
        lacking = "main" if model == "big" else "cache before main"
        raise ConfigError(f"there is no {lacking} to simulate alone; see route.stages and cache.start_ranks")
    names = [table.name for table in stages[model]]
    splits = EVALUATED
    if config.monte_carlo.split not in splits:
        splits = (config.monte_carlo.split,)
        tables = predict_stages(config, manifest, config.route.precision, splits)
    files = [predictions_file(config, name, config.route.precision, splits) for name in names]
    return [table for table in tables if table.name in names], files


def _subject(model: str, tables: list[Predictions], rules: Rules, manifest: Manifest) -> Subject:
    species = manifest.species()
    if model in CASCADES:
        return cascade_subject(tables, rules[: len(tables)], species)
    return model_subject(tables[0], species if model.endswith(".onnx") else tables[0].labels)


def _simulate(
    config: Config,
    manifest: Manifest,
    model: str,
    tables: list[Predictions],
    rules: Rules,
    fits: str,
    outputs: list[Path],
) -> None:
    subject = _subject(model, tables, rules, manifest)
    settings, rows = config.monte_carlo, subject.rows
    figures, runs, report, convergence, confusion = outputs
    names = manifest.species().names
    place = {name: i for i, name in enumerate(names)}
    good = manifest.rows[manifest.rows["split"] != ""]
    species = np.array([place[name] for name in rows["species"]])
    photos = np.bincount(species, minlength=len(names))
    day = Day(
        species, settings.samples, species_mix(settings, names, good, photos), settings.replacement,
        settings.every_species, settings.dirichlet,
    )  # fmt: skip
    found = simulate(subject.sample, day, settings.runs, config.seed)
    told = summary(subject.sample, found)
    sizes = [file.stat().st_size for path in rows["image_path"] if (file := manifest.root / path).is_file()]
    photo_kb = settings.photo_kb or (float(np.mean(sizes)) / 1024 if sizes else None)
    rate = told["communication_rate"]["pooled"]
    result = {
        "model": model,
        "basis": fits,
        "settings": settings.model_dump(mode="json"),
        "runs": settings.runs,
        "samples": settings.samples,
        "drawn_from": settings.split,
        "mix": settings.mix,
        "replacement": settings.replacement,
        "every_species": settings.every_species,
        "photos": len(rows),
        "species_without_photos": [name for name, n in zip(names, photos, strict=True) if not n],
        "precision": tables[0].card["precision"],
        **told,
        "runs_enough": {
            name: None if told[name]["sd"] is None else runs_enough(told[name]["sd"], ENOUGH)
            for name in TOLD if name in told
        } | {"within": ENOUGH},
        "storage": storage(rate, photo_kb, settings.storage_mb, settings.runs, config.seed) if photo_kb else None,
    }  # fmt: skip
    write_csv(runs, found.runs)
    write_csv(report, _pooled_report(subject, found.drawn, manifest))
    plots.convergence(found.runs, {name: told[name]["mean"] for name in TOLD[:3]}, ENOUGH, convergence)
    plots.whole_confusion(
        subject.confusion(found.drawn), f"{settings.runs} days of {settings.samples} photos, {model}", confusion
    )
    write_json(figures, result)


def _pooled_report(subject: Subject, drawn: Any, manifest: Manifest) -> pd.DataFrame:
    """The users' report over the photos of all runs; answers outside the label space have a row of their own."""
    sample = subject.sample
    report = users_report(manifest, sample.truth, sample.answers, subject.labels, drawn)
    outside = drawn[sample.answers < 0].sum()
    if outside:
        report = pd.concat([report, pd.DataFrame([{"species": OUTSIDE_ROW, "support": outside}])], ignore_index=True)
    return report


def _tell(model: str, result: dict[str, Any]) -> None:
    log.info(
        "monte carlo of %s: %d runs of %d %s photos", model, result["runs"], result["samples"], result["drawn_from"]
    )
    for name in TOLD:
        if f := result.get(name):
            several = (
                f"95 % of the runs in [{f['low_95']:.4f}, {f['high_95']:.4f}]" if result["runs"] > 1 else "one run"
            )
            log.info("  %-19s %.4f, %s", name, f["mean"], several)
    kept = result["storage"]
    if kept and kept["looked_at"]:
        log.info(
            "  storage: %.0f MB hold %d photos of %.1f KB, full after %.0f photos",
            kept["limit_mb"], kept["kept"], kept["photo_kb"], kept["looked_at"]["mean"],
        )  # fmt: skip
