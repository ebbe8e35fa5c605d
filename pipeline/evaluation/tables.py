"""Tables of a model's answers on test, as CSV and Parquet: per species, confusion, mistakes, confidence, times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.edge.rule import probabilities
from pipeline.evaluation.predict import TIMES, Predictions
from pipeline.evaluation.routing import Routed, truth_ids
from pipeline.evaluation.scores import CALIBRATION_BINS, Floats, Ids, calibration_bin
from pipeline.files import write_arrow, write_csv
from pipeline.labels import LabelSpace

FORMAT_VERSION = 4  # of the tables below, metrics.json and simulations; files of other versions are made again
NO_LABEL = "(no label)"  # a true species or an answer outside the label space
PERCENTILES = {"min": 0, "p25": 25, "median": 50, "p75": 75, "p90": 90, "p95": 95, "p99": 99, "max": 100}
TABLES = (
    "detailed_class_metrics.csv", "confusion_matrix_absolute.csv", "confusion_matrix_percent.csv", "confused_pairs.csv",
    "errors_per_species.csv", "misclassifications.csv", "class_confidence.csv", "reliability.csv",
    "inference_statistics.csv", "per_sample_results.parquet",
)  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """Answers on test: truth and answers as indexes of labels (below 0: no label), probability of the answer.

    rows: image_path, species and times. true_probability: what the answering model gave to the truth (0: not its label).
    probabilities: (photos, labels), of one model; None of a cascade. stage: name of the model that answered.
    """

    rows: pd.DataFrame
    truth: Ids
    answers: Ids
    labels: LabelSpace
    confidence: Floats
    true_probability: Floats
    stage: NDArray[np.str_]
    probabilities: Floats | None = None

    @property
    def right(self) -> NDArray[np.bool_]:
        result: NDArray[np.bool_] = self.truth == self.answers
        return result

    def names(self, ids: Ids) -> list[str]:
        """Name of each label."""
        return [self.labels.names[i] if i >= 0 else NO_LABEL for i in ids]


def judge(table: Predictions) -> Judged:
    """The answers of one model."""
    truth, p = table.labels.ids(table.rows["species"].tolist()), probabilities(table.logits)
    answers, every = p.argmax(axis=1).astype(np.int64), np.arange(len(p))
    return Judged(
        table.rows, truth, answers, table.labels, p.max(axis=1), p[every, truth], np.full(len(p), table.name), p
    )


def judge_cascade(tables: list[Predictions], routed: Routed) -> Judged:
    """The answers of the cascade, each with the probability of its stage, as on the device."""
    species = tables[0].rows["species"].tolist()
    sure, true = np.zeros(len(species)), np.zeros(len(species))
    for k, table in enumerate(tables):
        mine, ids = routed.stage == k, truth_ids(species, table.labels)
        p = probabilities(table.logits, routed.temperatures[k])
        sure[mine] = p[mine].max(axis=1)
        true[mine] = np.where(ids >= 0, p[np.arange(len(p)), ids], 0.0)[mine]
    stage = np.array([table.name for table in tables])[routed.stage]
    return Judged(tables[0].rows, truth_ids(species, routed.labels), routed.answers, routed.labels, sure, true, stage)


def write_tables(folder: Path, judged: Judged) -> None:
    """All TABLES into the folder."""
    matrix = confusion(judged)
    made = {
        "detailed_class_metrics.csv": class_metrics(judged),
        "confusion_matrix_absolute.csv": matrix.rename_axis("true \\ predicted").reset_index(),
        "confusion_matrix_percent.csv": row_percent(matrix).rename_axis("true \\ predicted").reset_index(),
        "confused_pairs.csv": confused_pairs(judged),
        "errors_per_species.csv": errors_per_species(judged),
        "misclassifications.csv": misclassifications(judged),
        "class_confidence.csv": class_confidence(judged),
        "reliability.csv": reliability(judged),
        "inference_statistics.csv": inference_statistics(judged.rows),
    }
    for name, table in made.items():
        write_csv(folder / name, table)
    found = pa.Table.from_pandas(per_sample(judged), preserve_index=False)
    metadata = {"format_version": FORMAT_VERSION, "labels": list(judged.labels.names), "label_hash": judged.labels.hash}
    write_arrow(folder / "per_sample_results.parquet", found, metadata)


def confusion(judged: Judged) -> pd.DataFrame:
    """Photos per true and answered label."""
    return count_confusion(judged.truth, judged.answers, judged.labels)


def count_confusion(truth: Ids, answers: Ids, labels: LabelSpace, weights: Floats | None = None) -> pd.DataFrame:
    """Rows: truth, columns: answers; a last row and column for what has no label, where there is any."""
    k = len(labels)
    pairs = np.where(truth < 0, k, truth) * (k + 1) + np.where(answers < 0, k, answers)
    matrix = np.bincount(pairs, weights, minlength=(k + 1) ** 2).astype(np.int64).reshape(k + 1, k + 1)
    names = [*labels.names, NO_LABEL]
    if not matrix[k].any() and not matrix[:, k].any():
        matrix, names = matrix[:k, :k], names[:k]
    return pd.DataFrame(matrix, index=names, columns=names)


def row_percent(matrix: pd.DataFrame) -> pd.DataFrame:
    """Per cent of each row; a row without photos stays 0."""
    return 100 * matrix.div(matrix.sum(axis=1).clip(lower=1), axis=0)


def confused_pairs(judged: Judged, at_most: int = 50) -> pd.DataFrame:
    """The most frequently confused pairs of species: true, predicted, count, share_of_true."""
    matrix = confusion(judged).to_numpy()
    rows = matrix.sum(axis=1)
    off = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    order = np.argsort(-off, axis=None, kind="stable")[:at_most]
    found = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, off.shape), strict=True) if off[i, j]]
    names = [*judged.labels.names, NO_LABEL]
    return pd.DataFrame(
        [(names[i], names[j], int(off[i, j]), off[i, j] / rows[i]) for i, j in found],
        columns=["true", "predicted", "count", "share_of_true"],
    )


def errors_per_species(judged: Judged) -> pd.DataFrame:
    """The wrong answers per species: true, predicted, count, share_of_errors, confidence."""
    wrong = pd.DataFrame(
        {"true": judged.names(judged.truth), "predicted": judged.names(judged.answers), "confidence": judged.confidence}
    )[~judged.right]
    found = wrong.groupby(["true", "predicted"])["confidence"].agg(["size", "mean", "min", "max"]).reset_index()
    found.columns = ["true", "predicted", "count", "mean_confidence", "min_confidence", "max_confidence"]
    total = found.groupby("true")["count"].transform("sum")
    found.insert(3, "share_of_errors", found["count"] / total)
    order = pd.DataFrame({"total": -total, "true": found["true"], "count": -found["count"], "to": found["predicted"]})
    return found.loc[order.sort_values(["total", "true", "count", "to"]).index].reset_index(drop=True)


def misclassifications(judged: Judged) -> pd.DataFrame:
    """One row per mistake, the most confident first; confidence_margin: probability of the answer minus that of the truth."""
    table = _answers(judged)[~judged.right].drop(columns="correct")
    return table.sort_values(["confidence_margin", "image_path"], ascending=[False, True])


def per_sample(judged: Judged) -> pd.DataFrame:
    """One row per photo, with prob_<label> of every label where one model answers."""
    table = _answers(judged).assign(**{name: judged.rows[name] for name in TIMES})
    if judged.probabilities is None:
        return table
    columns = [f"prob_{name}" for name in judged.labels.names]
    return table.join(pd.DataFrame(judged.probabilities.astype(np.float32), columns=columns))


def _answers(judged: Judged) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_path": judged.rows["image_path"],
            "true_label": judged.truth,
            "predicted_label": judged.answers,
            "true_class": judged.rows["species"],
            "predicted_class": judged.names(judged.answers),
            "correct": judged.right,
            "stage": judged.stage,
            "confidence": judged.confidence,
            "confidence_margin": judged.confidence - judged.true_probability,
        }
    )


def class_metrics(judged: Judged) -> pd.DataFrame:
    """Per label: TP, FP, FN, TN, the scores of one label against the rest, confidence of its right answers, its shares.

    accuracy counts the photos of all other labels that were not given this one: it is near 1 for every rare species.
    model_preference: share of the photos that got this answer. A share of nothing is empty.
    """
    ids, n = np.arange(len(judged.labels)), len(judged.truth)
    of = judged.truth[:, None] == ids
    said = judged.answers[:, None] == ids
    tp, fp, fn = (of & said).sum(0), (~of & said).sum(0), (of & ~said).sum(0)
    tn = n - tp - fp - fn
    sure = [judged.confidence[of[:, i] & said[:, i]] for i in ids]

    def per(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = np.divide(part, whole, out=np.full(len(ids), np.nan), where=whole > 0)
        return result

    return pd.DataFrame(
        {
            "class_name": judged.labels.names, "TP": tp, "FP": fp, "FN": fn, "TN": tn,
            "precision": per(tp, tp + fp), "recall": per(tp, tp + fn), "specificity": per(tn, tn + fp),
            "f1_score": per(2 * tp, 2 * tp + fp + fn), "accuracy": (tp + tn) / n, "support": tp + fn,
            "mean_confidence": [s.mean() if len(s) else np.nan for s in sure],
            "min_confidence": [s.min() if len(s) else np.nan for s in sure],
            "max_confidence": [s.max() if len(s) else np.nan for s in sure],
            "fraction_of_dataset": (tp + fn) / n, "model_preference": (tp + fp) / n,
        }
    )  # fmt: skip


def class_confidence(judged: Judged) -> pd.DataFrame:
    """Probability of the answer, per answered label: class_name, answers, mean, min, max, std (0 for one answer)."""
    table = pd.DataFrame({"class_name": judged.names(judged.answers), "confidence": judged.confidence})
    found = table.groupby("class_name")["confidence"].agg(["size", "mean", "min", "max", "std"]).fillna(0.0)
    found.columns = ["answers", "mean_confidence", "min_confidence", "max_confidence", "std_confidence"]
    return found.reset_index()


def reliability(judged: Judged) -> pd.DataFrame:
    """Calibration: per bin of confidence its answers, mean confidence, accuracy and their difference (Guo et al., 2017)."""
    answered = judged.answers >= 0
    confidence, rightness = judged.confidence[answered], judged.right[answered]
    bins = calibration_bin(confidence)
    photos = np.bincount(bins, minlength=CALIBRATION_BINS)
    whole = np.maximum(photos, 1)
    sure = np.bincount(bins, confidence, CALIBRATION_BINS) / whole
    right = np.bincount(bins, rightness, CALIBRATION_BINS) / whole
    edges = np.arange(CALIBRATION_BINS + 1) / CALIBRATION_BINS
    table = {"from": edges[:-1], "to": edges[1:], "photos": photos, "mean_confidence": sure, "accuracy": right}
    found = pd.DataFrame({**table, "gap": sure - right})
    found.loc[photos == 0, ["mean_confidence", "accuracy", "gap"]] = np.nan
    return found


def inference_statistics(rows: pd.DataFrame) -> pd.DataFrame:
    """Per step, ms per photo: count, mean, std, quantiles, interquartile range; photo by photo, unsorted, after a warm-up."""
    table: dict[str, dict[str, Any]] = {}
    for name in TIMES:
        times = rows[name].to_numpy()
        quantiles = dict(zip(PERCENTILES, np.percentile(times, list(PERCENTILES.values())), strict=True))
        table[name] = {"count": len(times), "mean": times.mean(), "std": times.std(), **quantiles}
        table[name]["iqr"] = quantiles["p75"] - quantiles["p25"]
    return pd.DataFrame(table).rename_axis("statistic").reset_index()
