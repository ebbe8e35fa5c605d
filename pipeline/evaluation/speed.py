"""How long a photo takes, from the file's bytes to the label, cascade and main alone in turn so that drift hits both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.console import log
from pipeline.edge.cascade import Cascade, Stage
from pipeline.edge.model import Model
from pipeline.errors import DataError
from pipeline.evaluation.experiment import chosen, read_experiment
from pipeline.evaluation.predict import model_file, predict_stages, stage_names
from pipeline.files import write_json

WARM_UP = 10


def compare_speed(cascade: Cascade, main: Cascade, photos: Sequence[Path]) -> dict[str, Any]:
    """Times in ms per photo (mean, p50, p95, p99) of both, and the ratio of the means. Unreadable photos are left out."""
    for photo in photos[:WARM_UP]:
        cascade.classify(photo)
        main.classify(photo)
    times: dict[str, list[float]] = {"cascade": [], "main": []}
    steps: dict[str, list[float]] = {"decode_ms": [], "preprocess_ms": []}
    for i, photo in enumerate(photos):
        order = [("cascade", cascade), ("main", main)]
        for name, stages in order if i % 2 else reversed(order):
            answer = stages.classify(photo)
            if answer.status == "ok":
                times[name].append(answer.ms)
                if name == "main":
                    steps["decode_ms"].append(answer.decode_ms)
                    steps["preprocess_ms"].append(answer.preprocess_ms)
    if not times["main"]:
        raise DataError(f"none of the {len(photos)} photos can be read, so there is nothing to time")
    result: dict[str, Any] = {name: _summary(series) for name, series in times.items()}
    result |= {name: float(np.mean(series)) for name, series in steps.items()}
    return {
        **result,
        "photos": len(times["main"]),
        "threads": 1,
        "speed_up": result["main"]["mean"] / result["cascade"]["mean"],
    }


def _summary(series: list[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(series, [50, 95, 99])
    return {"mean": float(np.mean(series)), "p50": float(p50), "p95": float(p95), "p99": float(p99)}


def speed(config: Config, photos: int) -> dict[str, Any]:
    """Cascade against main alone on test photos, photo by photo in one run on one thread; writes speed.json."""
    manifest = read_experiment(config)
    precision = config.route.precision
    tables = predict_stages(config, manifest, precision)
    if tables[-1].labels.has_other:
        raise DataError("the speed is compared with main alone, which is no stage here; add main to route.stages")
    rules = chosen(config, tables).rules
    rows = manifest.part("test")
    rows = rows.sample(min(photos, len(rows)), random_state=config.seed)
    stages = [
        Stage.of(name, Model(model_file(config, name, precision), threads=1), rule)
        for name, rule in zip(stage_names(config), rules, strict=True)
        if rule is not None
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
