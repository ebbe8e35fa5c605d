#!/usr/bin/env python3
"""Does a network with half the MACs answer sooner? Times pruned networks in turn, on one thread; prints the table.

    python benchmarks/pruning.py

Weights are untrained: times do not depend on them, accuracy does and is not measured here. Writes results/pruning.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_pruning
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.compression.cost import cost
from pipeline.compression.export import export
from pipeline.compression.importance import importance
from pipeline.compression.pruning import candidates, prune_to
from pipeline.edge.model import Model
from pipeline.edge.recipe import Recipe
from pipeline.labels import LabelSpace
from pipeline.models.checkpoint import ModelCard, versions
from pipeline.models.registry import build, head, scaling
from pipeline.sections.compression import Prune

RESULTS = Path(__file__).resolve().parent / "results"
NETWORKS = {"mcunet-in2": 8, "tf_efficientnet_lite0": 144}  # labels
SIZE, HALF, SEED = 160, 0.5, 0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=300, help="photos through every network (default 300)")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = [row for name in NETWORKS for row in measure(name, given.rounds, Path(scratch))]
    result = {"rounds": given.rounds, "size": SIZE, "threads": 1, "versions": versions(), "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "pruning.json").write_text(json.dumps(result, indent=1) + "\n")
    print(table(rows))


def variants(name: str) -> dict[str, nn.Module]:
    """The network, ours at half its MACs in each scope, without rounding, and Torch-Pruning's example."""
    torch.manual_seed(SEED)
    whole = build(name, NETWORKS[name]).eval()
    made = {"original": whole}
    for scope in ("isomorphic", "global", "layer"):
        made[f"half, {scope}"] = ours(name, whole, Prune(scope=scope))
    for scope in ("isomorphic", "layer"):
        made[f"half, {scope}, channels not rounded"] = ours(name, whole, Prune(scope=scope, round_to=1))
    made["Torch-Pruning's example (ratio .5)"] = theirs(name, whole, 0.5)
    made["its settings, at half"] = theirs_to_half(name, whole)
    return made


def ours(name: str, whole: nn.Module, settings: Prune) -> nn.Module:
    network = copy.deepcopy(whole)
    found = candidates(network, SIZE, head(network), importance("l1", network, None, None, 0.0), {})
    prune_to(network, SIZE, found, settings, macs, HALF * macs(whole), "MACs")
    return network


def theirs(name: str, whole: nn.Module, ratio: float) -> nn.Module:
    """The quick start of Torch-Pruning's README, with the classifier of this network kept."""
    network = copy.deepcopy(whole)
    kept = [m for key, m in network.named_modules() if f"{key}.".startswith(head(network))]
    pruner = torch_pruning.pruner.BasePruner(
        network, torch.randn(1, 3, SIZE, SIZE), importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio, ignored_layers=kept, round_to=8, in_channel_groups={}, out_channel_groups={},
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner.step()
    return network


def theirs_to_half(name: str, whole: nn.Module) -> nn.Module:
    for ratio in np.arange(0.02, 0.6, 0.02):
        network = theirs(name, whole, float(ratio))
        if macs(network) <= HALF * macs(whole):
            return network
    raise SystemExit(f"{name}: no ratio below .6 halves the MACs")


def macs(network: nn.Module) -> float:
    return cost(network, SIZE).macs


def measure(name: str, rounds: int, scratch: Path) -> list[dict[str, Any]]:
    """Figures of each variant; every round asks all of them once, in another order, so that drift hits all alike."""
    mean, std = scaling(name)
    labels = LabelSpace(tuple(f"species {i}" for i in range(NETWORKS[name])))
    card = ModelCard(name, "main", name, {}, labels, Recipe(size=SIZE, mean=mean, std=std), "", SEED)
    rng = np.random.default_rng(SEED)
    photo = rng.integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    rows, models = [], []
    for i, (label, network) in enumerate(variants(name).items()):
        file = scratch / f"{name}_{i}.onnx"
        export(network, card, file, photo, float("inf"))
        models.append(Model(file, threads=1))
        total = cost(network, SIZE)
        rows.append({"network": name, "variant": label, "macs": total.macs, "parameters": total.parameters,
                     "peak_elements": total.peak_elements, "bytes": file.stat().st_size})  # fmt: skip
    series: list[list[tuple[float, float]]] = [[] for _ in models]
    for turn in range(rounds + 10):
        for i in rng.permutation(len(models)):
            timed = clock(lambda i=i: models[i].logits(photo))
            if turn >= 10:  # warm-up
                series[i].append(timed)
    for row, times in zip(rows, series, strict=True):
        cpu, wall = np.array(times).T
        row |= {"cpu_ms": round(float(np.median(cpu)), 3), "wall_ms": round(float(np.median(wall)), 3),
                "cpu_p95_ms": round(float(np.percentile(cpu, 95)), 3), "cpu_min_ms": round(float(cpu.min()), 3)}  # fmt: skip
    return rows


def clock(call: Callable[[], Any]) -> tuple[float, float]:
    """Ms of this thread's processor time, which other programs on the machine do not lengthen much, and by the wall."""
    wall, cpu = time.perf_counter(), time.thread_time()
    call()
    return 1000 * (time.thread_time() - cpu), 1000 * (time.perf_counter() - wall)


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| network | M MACs | share | M parameters | peak int8 kB | file MB | ms (median) | ms (fastest) | times as fast |"
    ]
    lines.append("| --- " * 9 + "|")
    first: dict[str, Any] = {}
    for row in rows:
        if row["variant"] == "original":
            first = row
            lines.append(f"| **{row['network']}** " + "| " * 8 + "|")
        lines.append(
            f"| {row['variant']} | {row['macs'] / 1e6:.1f} | {row['macs'] / first['macs']:.2f} | {row['parameters'] / 1e6:.3f} "
            f"| {row['peak_elements'] / 1e3:.0f} | {row['bytes'] / 1e6:.2f} | {row['cpu_ms']:.2f} | {row['cpu_min_ms']:.2f} "
            f"| {first['cpu_ms'] / row['cpu_ms']:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
