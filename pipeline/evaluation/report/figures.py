"""Tables of the report: models, figures with their intervals, other days, speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline.evaluation.predict import Predictions

NONE = "–"
STARTS = {"none": "drawn at random", "package": "published, of its package"}


def told(figures: Mapping[str, Any], name: str) -> str:
    """A figure with its interval, where it has one."""
    value, interval = figures.get(name), figures.get(f"{name}_95")
    if value is None:
        return NONE
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else f"{value:.3f}"


def of_cards(tables: Sequence[Predictions]) -> list[dict[str, Any]]:
    """Architecture and origin of each model, from its exported file."""
    return [
        {
            "model": table.name,
            "network": card["architecture"] + "".join(f", {k} {v}" for k, v in card["arguments"].items()),
            "start weights": STARTS.get(card["pretrained"], card["pretrained"]),
            "epoch kept": card["training"].get("epoch", NONE),
            "input": f"{card['recipe']['size']} px, {card['recipe']['fit']}",
            "ranks": f"{card['window'][0] + 1} to {sum(card['window'])}" if card["window"] else "all",
            "labels": len(table.labels),
            "channels pruned": ", then ".join(f"{100 * step['ratio']:.3g} %" for step in card["pruning"]) or NONE,
            "trained on manifest": card["data_hash"],
        }
        for table in tables
        for card in [table.card]
    ]


def every_figure(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row per figure that has an interval, a column per model and cascade in each precision."""
    systems = {
        f"{name} {precision}": both[precision]
        | ({k: v for k, v in both.items() if k.startswith("int8_minus")} if precision == "int8" else {})
        for name, both in metrics["models"].items()
        for precision in ("fp32", "int8")
    }
    systems |= {f"cascade {precision}": _flat(cascade) for precision, cascade in metrics["cascade"].items()}
    names = [name.removesuffix("_95") for figures in systems.values() for name in figures if name.endswith("_95")]
    return [
        {"figure": _spelt(name)} | {system: told(figures, name) for system, figures in systems.items()}
        for name in dict.fromkeys(names)
    ]


def _spelt(name: str) -> str:
    """The figure's readable name; the name of a stage before it is kept."""
    stage, colon, figure = name.rpartition(": ")
    return stage + colon + figure.replace("_", " ").replace(" minus ", " − ")


def _flat(cascade: Mapping[str, Any]) -> dict[str, Any]:
    """The cascade's figures, with those of its stages and the paired difference under their own names."""
    figures = dict(cascade)
    for stage in cascade["stages"]:
        for name in ("hit_rate", "accuracy", "error_rate"):
            figures |= {f"{stage['name']}: {name}{end}": stage.get(f"{name}{end}") for end in ("", "_95")}
    if difference := cascade.get("accuracy_minus_main"):
        figures["accuracy_minus_main"] = difference["mean"]
        figures["accuracy_minus_main_95"] = [difference["low_95"], difference["high_95"]]
    return figures


def of_days(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Other days, a row each; see scenarios.measure."""
    shown = {
        f"{name}, {system}": (f"{system}_{figure}", f"{system}_{figure}_low_95", f"{system}_{figure}_high_95")
        for name, figure in (("accuracy", "accuracy"), ("macro F1", "macro_f1"))
        for system in ("cascade", "main")
        if f"{system}_{figure}" in table
    }
    rows = []
    for day in table.to_dict("records"):
        row = {
            "day": day["scenario"],
            "different photos": day["photos"],
            "draws": day["draws"],
            "species": day["species"],
        }
        row |= {
            name: told({"x": day[value], "x_95": (day[low], day[high])}, "x")
            for name, (value, low, high) in shown.items()
        }
        alone = day["ms_per_image_main_alone"]
        row |= {"sent on": f"{day['communication_rate']:.3f}", "ms": f"{day['ms_per_image']:.1f}"}
        rows.append(row | ({"main alone, ms": f"{alone:.1f}"} if alone else {}))
    return rows


def speeds(metrics: dict[str, Any]) -> list[tuple[str, float, float, tuple[float, float]]]:
    """Name, ms per photo, accuracy and its interval of main alone and of the cascade, which both answer every species."""
    points = []
    for precision, cascade in metrics["cascade"].items():
        for name, figure, ms in (
            ("cascade", "accuracy", "ms_per_image"),
            ("main", "main_alone_accuracy", "ms_per_image_main_alone"),
        ):
            if figure in cascade:  # there may be no main
                points.append((f"{name} {precision}", cascade[ms], cascade[figure], tuple(cascade[f"{figure}_95"])))
    return points
