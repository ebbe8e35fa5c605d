"""Cost tables of an experiment's models: totals, per layer, side by side, and over the levels of pruning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm

from pipeline.compression.cost import compare, cost, layers
from pipeline.compression.run import trained_models
from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.plots import save
from pipeline.files import write_csv, write_json
from pipeline.models.checkpoint import RETRAINED, ModelCard, load_model

SMALLEST_KB = 1.0  # lower end of the colour scale


def report(config: Config, names: Sequence[str]) -> dict[str, Any]:
    """Count the named models, or all of the experiment; tables and pictures go to output/<experiment>/cost/.

    Named models are also told layer by layer, and two of them side by side.
    """
    folder = config.output / "cost"
    found = [load_model(path) for path in ([config.models / name for name in names] or trained_models(config))]
    tables = {card.name: layers(network, card.recipe.size) for network, card in found}
    totals = []
    for network, card in found:
        total = cost(network, card.recipe.size)
        in_place = cost(network, card.recipe.size, depthwise_in_place=True).peak_elements
        totals.append(
            {"model": card.name, "size": card.recipe.size, **asdict(total), "peak_elements_in_place": in_place}
        )
        write_csv(folder / f"layers_{card.name}.csv", tables[card.name])
        if names:
            _tell_layers(card.name, tables[card.name])
        log.info(
            "cost      %-32s %d px: %.2f M MACs, %.3f M parameters, peak %.1f kB, int8 %.1f kB (%.1f with depthwise in place)",
            card.name, card.recipe.size, total.macs / 1e6, total.parameters / 1e6, total.peak_bytes / 1e3,
            total.peak_elements / 1e3, in_place / 1e3,
        )  # fmt: skip
    result = {"experiment": config.experiment, "models": totals}
    write_json(folder / "cost.json", result)
    if len(names) == 2:
        (first, _), (second, _) = found
        _side_by_side(folder / f"shapes_{names[0]}_{names[1]}.csv", names, compare(first, second))
    for unpruned, levels in _families([card for _, card in found]).items():
        heat_map({name: tables[name] for name in levels}, unpruned, folder / f"feature_maps_{unpruned}.png")
    log.info("cost      tables and pictures: %s", folder)
    return result


def heat_map(tables: Mapping[str, pd.DataFrame], unpruned: str, path: Path) -> None:
    """Feature maps in kB: rows are the layers that make one, in order; columns the models, the unpruned one first."""
    maps = [
        table[table["bytes"] > 0].groupby(["layer", "operator"], sort=False)["bytes"].sum() for table in tables.values()
    ]
    sizes = pd.concat(maps, axis=1, sort=False) / 1e3
    values = sizes.to_numpy()
    peaks = [table["live_bytes"].max() / 1e3 for table in tables.values()]
    names = ["unpruned" if name == unpruned else name.removeprefix(f"{unpruned}_") for name in tables]
    columns = zip(names, np.nansum(values, 0), peaks, strict=True)
    figure, axes = plt.subplots(figsize=(5 + 0.8 * len(names), 2 + 0.22 * len(sizes)))
    norm = LogNorm(SMALLEST_KB, np.nanmax(values))
    picture = axes.imshow(np.maximum(values, SMALLEST_KB), aspect="auto", cmap="YlOrRd", norm=norm)
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if norm(value) > 0.75 else "black"
        axes.text(
            column,
            row,
            f"{value:,.0f}" if value >= 100 else f"{value:.3g}",
            ha="center",
            va="center",
            fontsize=6.5,
            color=colour,
        )
    rows = [f"{layer or 'the network itself'} ({operator})" for layer, operator in sizes.index]
    axes.set_yticks(range(len(rows)), rows, fontsize=6.5)
    tops = [f"{name}\nsum {total:,.0f}\npeak {peak:,.0f}" for name, total, peak in columns]
    axes.set_xticks(range(len(tops)), tops, fontsize=7.5)
    axes.xaxis.tick_top()
    axes.set_title(f"{unpruned}: feature maps of one photo, kB (float32)", pad=14)
    bar = figure.colorbar(picture, ax=axes, label="kB", fraction=0.03, pad=0.02, format="{x:,.0f}")
    bar.ax.minorticks_off()
    save(figure, path)


def _families(cards: Sequence[ModelCard]) -> dict[str, list[str]]:
    """Each unpruned model with its pruned ones, sorted; retrained ones are left out, as they have the same layers."""
    families: dict[str, list[str]] = {}
    for card in cards:
        if card.pruning and not card.name.endswith(RETRAINED):
            families.setdefault(card.pruning[0]["unpruned"], []).append(card.name)
    known = {card.name for card in cards}
    return {name: [name, *sorted(pruned)] for name, pruned in families.items() if name in known}


def _tell_layers(name: str, table: pd.DataFrame) -> None:
    log.info("%s\n  %-56s %-18s %-20s %10s %12s %10s %10s", name, *table.columns)
    for row in table.to_dict("records"):
        log.info(
            "  %(layer)-56s %(operator)-18s %(shape)-20s %(parameters)10d %(macs)12d %(bytes)10d %(live_bytes)10d",
            {**row, "shape": _shape(row["shape"])},
        )


def _side_by_side(path: Path, names: Sequence[str], table: pd.DataFrame) -> None:
    write_csv(path, table)
    log.info("  %-56s %-22s %-22s %6s", "layer", *names, "kept")
    for row in table[table["kept"] != 1].to_dict("records"):
        kept = "" if np.isnan(row["kept"]) else f"{row['kept']:.1%}"
        log.info("  %-56s %-22s %-22s %6s", row["layer"], _shape(row["first"]), _shape(row["second"]), kept)
    log.info("  %d of %d layers have the same shape in both", (table["kept"] == 1).sum(), len(table))


def _shape(shape: tuple[int, ...] | None) -> str:
    return "x".join(map(str, shape)) if shape else "-"
