"""Results of other commands for the report: simulations, times, corrupted photos, averaged views, features, layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.config import Config
from pipeline.console import log
from pipeline.evaluation.predict import Predictions
from pipeline.files import read_json
from pipeline.pages import embedded, png_text

TOLD = ("accuracy", "macro_f1", "communication_rate")
LAYER_PICTURES = 6  # in a report; all of them are in their folder


def result_files(config: Config) -> list[Path]:
    """Files of times, corrupted photos, averaged views and features, whether they exist or not; then every simulation."""
    names = ("speed.json", "evaluation/stress.csv", "evaluation/tta.json", "evaluation/features.csv")
    return [config.output / name for name in names] + sorted((config.output / "monte_carlo").glob("*.json"))


def of_results(config: Config, fits: set[str]) -> dict[str, Any]:
    """Simulations, times, corrupted photos, averaged views, features; empty where their scripts did not run.

    fits: fingerprints of the current models, with and without rules; other results are skipped with a warning.
    """
    speed, stress, views, places, *simulated = result_files(config)
    simulations = []
    for path in simulated:
        found = _fitting(path, fits)
        if not found:
            continue
        kept = found["storage"]
        if not kept:
            full = "unknown: no photo is there to tell its size"
        elif not kept["looked_at"]:
            full = "never"
        else:
            full = f"{kept['looked_at']['mean']:,.0f} photos for {kept['limit_mb']:g} MB"
        figures = [found[name] for name in TOLD]
        simulations.append(
            {"name": path.stem, "runs": f"{found['runs']:,}", "samples": f"{found['samples']:,}", "mix": _mix(found),
             "figures": figures, "full": full}
        )  # fmt: skip
    tta = []
    for name, found in _fitting(views, fits).get("models", {}).items():
        mean, low, high = (100 * found["difference"][k] for k in ("mean", "low_95", "high_95"))
        accuracy = {kind.replace("_", " "): found[kind]["accuracy"] for kind in ("one_view", "nine_views")}
        tta.append({"model": name, **accuracy, "difference": f"{mean:+.2f} points [{low:+.2f}, {high:+.2f}]"})
    return {
        "simulations": simulations,
        "speed": _fitting(speed, fits),
        "features": bool(_fitting(places, fits)),
        "stress": _stress(found["table"]) if (found := _fitting(stress, fits)) else "",
        "tta": tta,
    }


def _mix(found: dict[str, Any]) -> str:
    """The part that was drawn from, the mix, and all that is not as usual about them."""
    settings = found.get("settings", {})  # results of earlier versions have none
    told = [found["drawn_from"], found["mix"]]
    told += [f"month {settings['month']}"] if found["mix"] == "month" else []
    told += [f"{100 * share:g} % {name}" for name, share in settings.get("dominant", {}).items()]
    told += [f"no {name}" for name in settings.get("missing", [])]
    told += [f"varied by Dirichlet {settings['dirichlet']:g}"] if settings.get("dirichlet") else []
    told += ["every species once"] if found["every_species"] else []
    told += [] if found["replacement"] else ["no photo twice"]
    return ", ".join(told)


def layer_pictures(config: Config, tables: list[Predictions]) -> dict[str, str]:
    """Title and data URI of the first pictures of layers that were drawn of today's weights."""
    weights = {table.card["weights_sha256"] for table in tables}
    drawn = [path for path in layer_files(config) if png_text(path).get("weights") in weights]
    return {path.stem: embedded(path) for path in drawn[:LAYER_PICTURES]}


def layer_files(config: Config) -> list[Path]:
    """Pictures of layers, of any weights."""
    return sorted((config.output / "channels").glob("*.png"))


def _fitting(file: Path, fits: set[str]) -> dict[str, Any]:
    """A result, a CSV as its `table`; empty where there is none, or where it is of other models or rules."""
    if not file.is_file():
        return {}
    if file.suffix == ".csv":
        table = pd.read_csv(file, dtype={"basis": str})
        found = {"table": table, "basis": table["basis"].iloc[0] if "basis" in table else None}
    else:
        found = dict(read_json(file, "result"))
    if found.get("basis") in fits:
        return found
    log.warning("report    left out, for it was made from other models or thresholds: %s; run its command again", file)
    return {}


def _stress(table: pd.DataFrame) -> str:
    """One sentence on the cascade."""
    cascade = table[table["system"] == "cascade"]
    clean = float(cascade["accuracy"][cascade["corruption"] == "clean"].iloc[0])
    worst = cascade.sort_values("accuracy", kind="stable").iloc[0]
    return (
        f"{int(worst['photos'])} test photos: the cascade's accuracy is {clean:.3f} on them as they are, and falls lowest, to "
        f"{worst['accuracy']:.3f}, under {worst['corruption']} at level {worst['level']}."
    )
