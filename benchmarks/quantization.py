#!/usr/bin/env python3
"""int8 methods side by side on an experiment's exported models: accuracy on val and test, agreement, size, time.

    python benchmarks/quantization.py --config configs/haute_garonne_insecta.yaml --set paths.src_dataset=PHOTOS ...
    python benchmarks/quantization.py ... --model cache_0.5_0 --method plain --method refined

Run train.py and quantize.py first. val is what quantize.py chooses by; test is only reported. Times are of one network call,
one thread, all files in turn photo by photo. Figures go to benchmarks/results/quantization.json after each method, so that
it can be stopped; what was measured of the same files stays.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "quantization.json"
sys.path.insert(0, str(ROOT))

from pipeline.compression.export import logits  # noqa: E402
from pipeline.compression.quality import compare, operators_here  # noqa: E402
from pipeline.compression.quantization import Photos, calibration_sample, prepared, write_int8  # noqa: E402
from pipeline.compression.run import load_photos, trained_models  # noqa: E402
from pipeline.console import configuration, parser  # noqa: E402
from pipeline.dataset.manifest import read_manifest  # noqa: E402
from pipeline.edge.model import METADATA_KEY, Model  # noqa: E402
from pipeline.files import sha256, write_json  # noqa: E402
from pipeline.labels import LabelSpace  # noqa: E402
from pipeline.sections.compression import Quantize  # noqa: E402

PLAIN = {"refine": False, "max_drop": 1.0}
METHODS: dict[str, dict[str, Any]] = {
    "refined": {"max_drop": 1.0},
    "s8": {**PLAIN, "activations": "s8"},
    "u8": PLAIN,
    "per tensor": {**PLAIN, "per_channel": False},
    "per tensor, refined": {"per_channel": False},
    "percentile": {**PLAIN, "method": "percentile"},
    "entropy": {**PLAIN, "method": "entropy"},
    "qoperator, refined": {"format": "qoperator"},
    "dynamic": {"kind": "dynamic"},
}
TIMED = 200  # photos


def main() -> None:
    arguments = parser(__doc__ or "", "")
    arguments.add_argument("--model", action="append", help="repeatable; default: all")
    arguments.add_argument("--method", action="append", choices=["plain", "exported", *METHODS], help="default: all")
    given = arguments.parse_args()
    config = configuration(given)
    manifest = read_manifest(config.dataset_dir, config.paths.dst_dataset)
    result: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for folder in trained_models(config):
        if given.model and folder.name not in given.model:
            continue
        exact = folder / "model.onnx"
        recipe = Model(exact).recipe
        space = LabelSpace(Model(exact).labels)
        sample = calibration_sample(manifest.part("train"), config.quantize.calibration_images, config.seed, space)
        calibration = load_photos(manifest, sample, recipe)
        parts = {split: manifest.part(split) for split in ("val", "test")}
        photos = {split: load_photos(manifest, rows, recipe) for split, rows in parts.items()}
        truth = {split: space.ids(rows["species"].tolist()) for split, rows in parts.items()}
        before = {split: logits(Model(exact), given_photos) for split, given_photos in photos.items()}
        known = result.get(folder.name, {})
        if known.get("sha256") != sha256(exact):
            known = {"sha256": sha256(exact), "methods": {}}
        result[folder.name] = known
        with tempfile.TemporaryDirectory() as scratch:
            for name in given.method or ["exported", "plain", *METHODS]:
                file = Path(scratch) / f"{name}.onnx"
                make(name, exact, file, calibration)
                figures = {s: compare(truth[s], before[s], logits(Model(file), photos[s])) for s in parts}
                known["methods"][name] = {
                    "bytes": file.stat().st_size,
                    **figures,
                    "operators_here": operators_here(file),
                    **times(exact, file, photos["val"][:TIMED]),
                }
                write_json(RESULTS, result)
                print(row(folder.name, name, known["methods"][name]), flush=True)


def make(name: str, exact: Path, target: Path, calibration: Any) -> None:
    """The int8 file of a method; `plain` is onnxruntime's quantize_static as its documentation calls it."""
    if name == "exported":
        target.write_bytes(exact.with_name("model.int8.onnx").read_bytes())
    elif name == "plain":
        import onnx
        from onnxruntime.quantization import quantize_static

        quantize_static(exact, target, Photos(calibration))
        proto = onnx.load(target)
        card = {entry.key: entry.value for entry in onnx.load(exact).metadata_props}
        onnx.helper.set_model_props(proto, {METADATA_KEY: card[METADATA_KEY]})
        onnx.save_model(proto, target)
    else:
        with prepared(exact, calibration, Quantize(**METHODS[name])) as ready:
            write_int8(ready, target)


def times(fp32: Path, int8: Path, photos: Any) -> dict[str, dict[str, float]]:
    """Median and fastest ms of one call of both, in turn."""
    calls: dict[str, Callable[[Any], Any]] = {"fp32_ms": Model(fp32).logits, "int8_ms": Model(int8).logits}
    series: dict[str, list[float]] = {name: [] for name in calls}
    for photo in photos:
        for name, call in calls.items():
            start = time.perf_counter()
            call(photo[None])
            series[name].append(1000 * (time.perf_counter() - start))
    return {name: {"p50": float(np.median(s[10:])), "min": float(min(s[10:]))} for name, s in series.items()}


def row(model: str, name: str, m: dict[str, Any]) -> str:
    """One line of the page's table."""
    drops = " | ".join(f"{100 * m[split]['accuracy_drop']:+.2f}" for split in ("val", "test"))
    return (
        f"| {model} | {name} | {drops} | {m['test']['agreement']:.1%} | {m['test']['mse']:.4f} | {m['bytes'] / 1e6:.2f} "
        f"| {m['int8_ms']['min']:.2f} / {m['fp32_ms']['min']:.2f} |"
    )


if __name__ == "__main__":
    main()
