"""Measures that run the networks again, on a seeded part of the test photos: corrupted photos, and averaged views."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.manifest import learnt_manifest
from pipeline.edge.model import Model
from pipeline.evaluation import charts
from pipeline.evaluation.experiment import basis, chosen, part, with_interval
from pipeline.evaluation.metrics import headline, paired_difference
from pipeline.evaluation.predict import (
    Predictions,
    load_predictions,
    model_file,
    predict,
    predict_stages,
    save_predictions,
)
from pipeline.evaluation.routing import Rules, route
from pipeline.evaluation.tables import judge, judge_cascade
from pipeline.evaluation.views import CORRUPTIONS, LEVELS, Views, corrupted, nine_views
from pipeline.files import Stamp, digest, run_once, sha256, write_csv, write_json


def stress(config: Config, photos: int) -> pd.DataFrame:
    """Caches, main and cascade on `photos` test photos under blur, noise, JPEG and darkness at 5 levels.

    Each level is predicted once and kept, so a killed run goes on where it was. Writes evaluation/stress.csv and a plot.
    """
    clean, rules = seeded_part(config, photos)
    rows = _rows("clean", 0, clean, rules, config.seed)
    for kind in CORRUPTIONS:
        for level in LEVELS:
            views = corrupted(kind, level, config.seed)
            tables = [_looked_at(config, table, f"{kind}_{level}", views) for table in clean]
            rows += _rows(kind, level, tables, rules, config.seed)
    table = pd.DataFrame(rows).assign(basis=basis(config, rules))
    write_csv(config.output / "evaluation" / "stress.csv", table)
    charts.stress(table, config.output / "evaluation" / "plots" / "stress.png")
    log.info("stress    %d photos: %s", len(clean[0].rows), config.output / "evaluation" / "stress.csv")
    return table


def average_views(config: Config, photos: int) -> dict[str, Any]:
    """Each model on nine views per photo, averaged, against one view, paired; writes evaluation/tta.json."""
    clean, rules = seeded_part(config, photos)
    result: dict[str, Any] = {"photos": len(clean[0].rows), "basis": basis(config, rules), "models": {}}
    for table in clean:
        seen = _looked_at(config, table, "views", nine_views)
        there = (seen.rows["reason"] == "").to_numpy()
        averaged, plain = judge(seen.where(there)), judge(table.where(there))
        result["models"][table.name] = {
            "one_view": headline(plain.truth, plain.answers, plain.labels, config.seed),
            "nine_views": headline(averaged.truth, averaged.answers, averaged.labels, config.seed),
            "difference": paired_difference(averaged.right, plain.right, config.seed),
        }
    write_json(config.output / "evaluation" / "tta.json", result)
    for name, found in result["models"].items():
        log.info(
            "tta       %-16s one view %s, nine views %s", name, with_interval(found["one_view"], "accuracy"),
            with_interval(found["nine_views"], "accuracy"),
        )  # fmt: skip
    return result


def seeded_part(config: Config, photos: int) -> tuple[list[Predictions], Rules]:
    """The stored predictions of a seeded part of the test photos, and the rules (chosen on val)."""
    tables = predict_stages(config, learnt_manifest(config), config.route.precision)
    test = part(tables, "test")
    drawn = test[0].rows.sample(min(photos, len(test[0].rows)), random_state=config.seed).index.sort_values()
    return [
        Predictions(table.rows.loc[drawn].reset_index(drop=True), table.logits[drawn], table.card, table.data_hash)
        for table in test
    ], chosen(config, tables).rules


def _looked_at(config: Config, clean: Predictions, what: str, views: Views) -> Predictions:
    """Predictions of other views of the same photos, made once."""
    source = model_file(config, clean.name, config.route.precision)
    rows = clean.rows[["image_path", "species", "split"]]
    target = config.output / "predictions" / "stress" / f"{clean.name}.{config.route.precision}.{what}.parquet"
    inputs = {"model": sha256(source), "photos": digest(rows["image_path"].tolist()), "seed": config.seed}
    stamp = Stamp(target.parent / ".stamps" / f"{target.stem}.json", inputs, [target])

    def work() -> None:
        found = predict(Model(source, threads=1), config.paths.dst_dataset, rows, clean.data_hash, views)
        save_predictions(target, found)

    run_once(f"stress    {target.stem}", stamp, False, work)
    return load_predictions(target)


def _rows(kind: str, level: int, tables: list[Predictions], rules: Rules, seed: int) -> list[dict[str, Any]]:
    """The figures of each system, on the readable photos."""
    tables = [table.part("test") for table in tables]
    routed = route(tables, rules)
    found = {table.name: judge(table) for table in tables} | {"cascade": judge_cascade(tables, routed)}
    rows = []
    for name, judged in found.items():
        figures = headline(judged.truth, judged.answers, judged.labels, seed, confidence=judged.confidence)
        row = {"corruption": kind, "level": level, "system": name, "photos": figures["photos"]}
        for figure in ("accuracy", "macro_f1", "ece"):
            low, high = figures.get(f"{figure}_95", (None, None))  # no answer has no calibration
            row |= {figure: figures.get(figure), f"{figure}_low_95": low, f"{figure}_high_95": high}
        to_main = float(routed.sent_on.mean()) if name == "cascade" else None
        rows.append({**row, "communication_rate": to_main})
    return rows
