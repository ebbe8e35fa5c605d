"""Time per photo from file bytes to label; cascade and main run alternately so that drift affects both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.manifest import learnt_manifest
from pipeline.edge.cascade import Answer, Cascade, Stage
from pipeline.edge.model import Model
from pipeline.errors import DataError
from pipeline.evaluation.experiment import basis, chosen
from pipeline.evaluation.predict import model_file, predict_stages, stage_names
from pipeline.evaluation.timing import draw, write_tables
from pipeline.files import write_json

WARM_UP = 10  # photos before the first timed one
REPEATS = 20  # of one photo, for the time of a network whose weights and photo are in the processor's cache
THREADS = 1
STEPS = ("decode_ms", "preprocess_ms", "infer_ms")


def compare_speed(systems: dict[str, Cascade], photos: Sequence[Path]) -> dict[str, pd.DataFrame]:
    """Times in ms of each system on the same photos, in the order of measuring: STEPS, total_ms, stage, a row per photo.

    Unreadable photos are left out. `attrs` of each table hold cold_ms (the network's first call), warm_ms (the second)
    and repeated_ms (the median of more calls on that same photo).
    """
    cold = {name: _repeat(system, photos) for name, system in systems.items()}
    for photo in photos[:WARM_UP]:
        for system in systems.values():
            system.classify(photo)
    rows: dict[str, list[list[Any]]] = {name: [] for name in systems}
    for i, photo in enumerate(photos):
        for name, system in list(systems.items())[:: 1 if i % 2 else -1]:
            answer = system.classify(photo)
            if answer.status == "ok":
                rows[name].append([answer.decode_ms, answer.preprocess_ms, _infer(answer), answer.stage])
    tables = {}
    for name, series in rows.items():
        table = pd.DataFrame(series, columns=[*STEPS, "stage"])
        tables[name] = table.assign(total_ms=table[list(STEPS)].sum(axis=1))
        tables[name].attrs |= cold[name]
    return tables


def _repeat(system: Cascade, photos: Sequence[Path]) -> dict[str, float]:
    """Cold, warm and repeated times of the first readable photo."""
    for photo in photos:
        first = system.classify(photo)
        if first.status == "ok":
            times = [_infer(first), *(_infer(system.classify(photo)) for _ in range(1 + REPEATS))]
            return {"cold_ms": times[0], "warm_ms": times[1], "repeated_ms": float(np.median(times[2:]))}
    raise DataError(f"none of the {len(photos)} photos can be read, so there is nothing to time")


def _infer(answer: Answer) -> float:
    return sum(answer.infer_ms.values())


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Mean, p50, p95 and p99 in ms of a photo's total time, and of each step."""
    figures = {step: _percentiles(table[step]) for step in (*STEPS, "total_ms")}
    return {**figures.pop("total_ms"), "steps": figures, **{str(name): time for name, time in table.attrs.items()}}


def _percentiles(series: pd.Series[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(series, [50, 95, 99])
    return {"mean": float(series.mean()), "p50": float(p50), "p95": float(p95), "p99": float(p99)}


def speed(config: Config, photos: int) -> dict[str, Any]:
    """Cascade against main alone on test photos, photo by photo in one run; writes speed.json and the folder speed.

    main_on_sent_on: main alone on those photos that the caches send on; None where they send on none.
    """
    manifest = learnt_manifest(config)
    precision = config.route.precision
    predictions = predict_stages(config, manifest, precision)
    if predictions[-1].labels.has_other:
        raise DataError("the speed is compared with main alone, which is no stage here; add main to route.stages")
    chosen_rules = chosen(config, predictions).rules
    rules = dict(zip(stage_names(config), chosen_rules, strict=True))
    rows = manifest.part("test")
    rows = rows.sample(min(photos, len(rows)), random_state=config.seed)
    stages, main = (
        [
            Stage.of(name, Model(model_file(config, name, precision), THREADS), rule)
            for name, rule in list(rules.items())[start:]
            if rule is not None
        ]
        for start in (0, -1)  # main alone gets its own session, so that its first call is cold
    )
    tables = compare_speed(
        {"cascade": Cascade(stages), "main": Cascade(main)}, [manifest.root / path for path in rows["image_path"]]
    )
    result: dict[str, Any] = {"precision": precision, "basis": basis(config, chosen_rules)}
    result |= {name: summary(table) for name, table in tables.items()}
    sent_on = tables["main"][tables["cascade"]["stage"] == stages[-1].name]
    sent_on.attrs.clear()  # cold and warm calls were of another photo
    result["main_on_sent_on"] = {"photos": len(sent_on), **summary(sent_on)} if len(sent_on) else None
    result |= {
        "photos": len(tables["main"]),
        "threads": THREADS,
        "providers": sorted({provider for stage in stages for provider in stage.model.session.get_providers()}),
        "speed_up": result["main"]["mean"] / result["cascade"]["mean"],
    }
    for name, table in tables.items():
        write_tables(config.output / "speed" / name, table)
    draw(tables, config.output / "speed" / "speed.png", f"{precision}, {THREADS} thread")
    write_json(config.output / "speed.json", result)
    log.info(
        "speed     %d photos, %s, one thread, %s: cascade %.2f ms, main alone %.2f ms per photo "
        "(medians %.2f and %.2f), %.2f times as fast; series: %s",
        result["photos"], precision, ", ".join(result["providers"]), result["cascade"]["mean"], result["main"]["mean"],
        result["cascade"]["p50"], result["main"]["p50"], result["speed_up"], config.output / "speed",
    )  # fmt: skip
    return result
