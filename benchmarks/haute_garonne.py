#!/usr/bin/env python3
"""The main job on a folder of real photos: runs it, gathers the figures as JSON, and prints the table.

    python benchmarks/haute_garonne.py PHOTOS --weights mcunet_in2_backbone.safetensors
    python benchmarks/haute_garonne.py PHOTOS --weights ... --device results.jsonl

The second form also compares the device's answers (classify.py --out results.jsonl, run there on the folder that
--sample made) with this machine's. Everything that is up to date is skipped.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "configs/haute_garonne_insecta.yaml"
OUTPUT = ROOT / "output" / "haute_garonne_insecta"
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("photos", type=Path, help="folder with Insecta/<species>/<photo>.jpg")
    arguments.add_argument("--weights", type=Path, help="pretrained mcunet-in2 weights for the cache")
    arguments.add_argument("--speed", type=int, default=1000, help="test photos to time (default 1000)")
    arguments.add_argument("--sample", type=int, default=100, help="test photos to lay out for the device")
    arguments.add_argument("--device", type=Path, help="results.jsonl of the device on sample/photos")
    given = arguments.parse_args()
    settings = {"paths.src_dataset": given.photos, "paths.dst_dataset": given.photos}
    if given.weights:
        settings["cache.pretrained"] = given.weights
    call("run.py", settings)
    call("monte_carlo.py", settings, "--runs", "10000", "--samples", "1000", "--out_prefix", "benchmark")
    if not given.device:
        call("eval.py", settings, "--speed", str(given.speed))
        lay_sample(given.photos, given.sample)
    result = gather()
    if given.device:
        result["device"] = agreement(given.device)
    else:
        result["device"] = known().get("device")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "haute_garonne.json").write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


def call(script: str, settings: dict[str, Any], *more: str) -> None:
    """Run a script of the project as a user would."""
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={Path(value).resolve()}")]
    subprocess.run([sys.executable, script, "--config", CONFIG, *sets, *more], cwd=ROOT, check=True)


def lay_sample(photos: Path, n: int) -> None:
    """Copy a seeded sample of test photos; `photos` goes beside classify.py on the device."""
    target = OUTPUT / "sample" / "photos"
    shutil.rmtree(target, ignore_errors=True)
    rows = pd.read_parquet(OUTPUT / "dataset" / "test.parquet").sample(n, random_state=0)
    for path in rows["image_path"]:
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photos / path, place)


def agreement(device: Path) -> dict[str, Any]:
    """This machine's answers of the same bundle to the same photos, beside the device's."""
    ours = OUTPUT / "sample" / "here.jsonl"
    ours.unlink(missing_ok=True)  # classify.py would keep the answers of an earlier bundle
    command = [sys.executable, "../bundle/classify.py", "photos", "--out", ours.name, "--threads", "1"]
    subprocess.run(command, cwd=ours.parent, check=True)
    here, there = ({r["path"]: r for r in map(json.loads, p.read_text().splitlines())} for p in (ours, device))
    if set(here) != set(there):
        raise SystemExit(
            f"{device} is of other photos than {ours.parent / 'photos'}; run classify.py photos there again"
        )
    same = [here[p]["species"] == there[p]["species"] for p in here]
    same_stage = [here[p]["stage"] == there[p]["stage"] for p in here]
    score = [abs(here[p]["score"] - there[p]["score"]) for p in here if here[p]["stage"] == there[p]["stage"]]
    return {
        "photos": len(here),
        "same_species": sum(same) / len(same),
        "same_stage": sum(same_stage) / len(same),
        "score_difference_median": float(pd.Series(score).median()),
        "score_difference_max": max(score),
    }


def known() -> dict[str, Any]:
    """The figures of an earlier run, or nothing."""
    path = RESULTS / "haute_garonne.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return result


def gather() -> dict[str, Any]:
    """All figures of the run, without photos, weights or paths."""
    result: dict[str, Any] = json.loads((OUTPUT / "metrics.json").read_text())
    result["speed"] = json.loads((OUTPUT / "speed.json").read_text())
    result["monte_carlo"] = json.loads((OUTPUT / "monte_carlo" / "benchmark_both.json").read_text())
    result["training"] = {}
    for card in sorted((ROOT / "models" / "haute_garonne_insecta").glob("*/model.json")):
        data = json.loads(card.read_text())
        history = pd.read_csv(card.parent / "training_metrics.csv")
        settings = {k: v for k, v in data["training"]["settings"].items() if k != "pretrained"}
        result["training"][data["name"]] = {
            "architecture": data["architecture"],
            "settings": settings,
            "epochs": len(history),
            "best_epoch": data["training"]["epoch"],
            "minutes": round(float(history["seconds"].sum()) / 60, 1),
            "weights_sha256": data["weights_sha256"],
        }
    return result


def table(result: dict[str, Any]) -> str:
    """Markdown of the headline figures, each with its 95 % interval."""

    def ranged(figures: dict[str, Any], name: str) -> str:
        low, high = figures[f"{name}_95"]
        return f"{figures[name]:.4f} [{low:.3f}, {high:.3f}]"

    lines = [
        "| model | precision | accuracy | macro F1 | top-5 | MB | ms, one photo |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, both in result["models"].items():
        for precision in ("fp32", "int8"):
            m = both[precision]
            lines.append(
                f"| {name} | {precision} | {ranged(m, 'accuracy')} | {ranged(m, 'macro_f1')} | {m.get('top5', 0):.4f} "
                f"| {m['bytes'] / 1e6:.2f} | {m['infer_ms']:.1f} |"
            )
    lines += ["", "| cache | hits | precision of hits | recall of its species | Other kept (error) | always Other |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for name, both in result["models"].items():
        for precision in ("fp32", "int8"):
            m = both[precision]
            if "hit_precision" in m:
                lines.append(
                    f"| {name} {precision} | {m['hit_share']:.1%} | {m['hit_precision']:.4f} | {m['dominant_recall']:.4f} "
                    f"| {m['other_false_positive_rate']:.4f} | {m['always_other_accuracy']:.4f} |"
                )
    lines += ["", "| cascade | accuracy | macro F1 | main alone | difference, points | to main | accuracy of hits |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    for precision, c in result["cascade"].items():
        d = c["accuracy_minus_main"]
        hits = ", ".join(f"{s['name']} {s['accuracy']:.4f}" for s in c["stages"][:-1] if s["accuracy"] is not None)
        lines.append(
            f"| {precision} | {ranged(c, 'accuracy')} | {ranged(c, 'macro_f1')} | {c['main_alone_accuracy']:.4f} "
            f"| {100 * d['mean']:+.2f} [{100 * d['low_95']:+.2f}, {100 * d['high_95']:+.2f}] "
            f"| {c['communication_rate']:.1%} | {hits} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
