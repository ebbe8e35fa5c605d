"""Compare models or experiments, paired on the same test photos: McNemar's test, bootstrap of the difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from pipeline.config import Config, load_config, override
from pipeline.console import log
from pipeline.errors import ConfigError, DataError, LabelSpaceError
from pipeline.evaluation import charts
from pipeline.evaluation.experiment import with_interval
from pipeline.evaluation.metrics import headline, paired_difference
from pipeline.evaluation.run import evaluation_stamp
from pipeline.files import read_arrow, safe_name, write_csv, write_json
from pipeline.labels import LabelSpace

SAMPLES = "per_sample_results.parquet"
COMPARED = ["image_path", "true_class", "true_label", "predicted_label", "correct"]


@dataclass(frozen=True)
class Answers:
    """rows: image_path, true_label, predicted_label, correct, sorted by image_path; labels: what the labels mean."""

    name: str
    rows: pd.DataFrame
    labels: LabelSpace


def compare(config: Config, names: Sequence[str]) -> dict[str, Any]:
    """Compare models of this experiment (main, main.int8, cascade ...), other experiments (their cascades), or one model
    of another experiment (experiment/main.int8). Writes compare_<names>.json, .csv and .png into evaluation/.
    """
    if len(set(names)) < 2:
        raise ConfigError("a comparison takes two different names or more")
    found = [read_answers(config, name) for name in dict.fromkeys(names)]
    check_comparable(found)
    result: dict[str, Any] = {"photos": len(found[0].rows), "models": {}, "pairs": []}
    for one in found:
        truth, answers = one.rows["true_label"].to_numpy(), one.rows["predicted_label"].to_numpy()
        result["models"][one.name] = headline(truth, answers, one.labels, config.seed)
    for a, b in combinations(found, 2):
        right = a.rows["correct"].to_numpy(), b.rows["correct"].to_numpy()
        result["pairs"].append({"a": a.name, "b": b.name, **paired(*right, config.seed)})
    stem = config.output / "evaluation" / f"compare_{safe_name('_'.join(names).replace('/', '.'))}"
    write_json(stem.with_name(f"{stem.name}.json"), result)
    write_csv(stem.with_name(f"{stem.name}.csv"), pd.DataFrame(result["pairs"]))
    charts.comparison(result, stem.with_name(f"{stem.name}.png"))
    _tell(result, stem)
    return result


def read_answers(config: Config, name: str) -> Answers:
    """The stored answers of a model of this experiment, of another experiment's cascade, or of <experiment>/<model>."""
    experiment, _, model = name.partition("/")
    folder, path = config.output, config.output / "evaluation" / name / SAMPLES
    if not path.is_file():
        folder = config.paths.output_dir / experiment
        path = folder / "evaluation" / (model or "cascade") / SAMPLES
    if not path.is_file():
        known = sorted(p.parent.name for p in (config.output / "evaluation").glob(f"*/{SAMPLES}"))
        raise DataError(
            f"no evaluated model or experiment {name!r}; of this experiment there are {known or 'none (run eval.py)'}, "
            f"others are named after their folder in {config.paths.output_dir}"
        )
    _check_fresh(config, folder, name)
    with read_arrow(path, "is no table of answers of this project; delete it, run eval.py again") as (file, metadata):
        labels = LabelSpace(tuple(metadata["labels"]))
        rows = file.read(COMPARED).select(COMPARED).to_pandas()
    return Answers(name, rows.sort_values("image_path").reset_index(drop=True), labels)


def _check_fresh(config: Config, folder: Path, name: str) -> None:
    """Refuse answers that are older than the predictions or rules of their experiment, with its own settings."""
    if folder != config.output:
        own = load_config(folder / "config.yaml")
        config = override(own, {"experiment": folder.name, "paths.output_dir": folder.parent})
    if not evaluation_stamp(config).fresh():
        raise DataError(
            f"the answers of {name} do not fit its predictions or settings; run eval.py again with its --config"
        )


def check_comparable(found: Sequence[Answers]) -> None:
    """Refuse tables of different photos, truth or labels, which cannot be paired."""
    first = found[0]
    for one in found[1:]:
        if not one.rows[["image_path", "true_class"]].equals(first.rows[["image_path", "true_class"]]):
            raise LabelSpaceError(
                f"{first.name} and {one.name} were tested on different photos ({len(first.rows)} and {len(one.rows)}), so "
                "they cannot be paired; evaluate both on one manifest"
            )
        if set(one.labels.names) != set(first.labels.names):
            raise LabelSpaceError(
                f"{first.name} and {one.name} answer different labels ({len(first.labels)} and {len(one.labels)}), so their "
                "accuracies mean different things; compare caches of the same window, or main models and cascades"
            )


def paired(a: Any, b: Any, seed: int) -> dict[str, Any]:
    """Photos that only a, or only b, has right; exact McNemar test (1947; two-sided binomial); a - b with its interval."""
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    difference = paired_difference(a, b, seed)
    return {"only_a": only_a, "only_b": only_b, "mcnemar_p": p, **{f"a_minus_b_{k}": v for k, v in difference.items()}}


def _tell(result: dict[str, Any], stem: Path) -> None:
    log.info("compare   %d photos, the same for all", result["photos"])
    for name, figures in result["models"].items():
        log.info(
            "  %-28s accuracy %s, macro F1 %s",
            name,
            with_interval(figures, "accuracy"),
            with_interval(figures, "macro_f1"),
        )
    for pair in result["pairs"]:
        log.info(
            "  %s minus %s: %+.4f [%+.4f, %+.4f], McNemar p = %.3g (%d against %d photos)",
            pair["a"], pair["b"], pair["a_minus_b_mean"], pair["a_minus_b_low_95"], pair["a_minus_b_high_95"],
            pair["mcnemar_p"], pair["only_a"], pair["only_b"],
        )  # fmt: skip
    log.info("compare   table and plot: %s.json, .csv, .png", stem)
