"""Post-hoc "Other": a cache for any threshold out of a full model's logits, beside the caches that were trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.dataset.labelling import ranked
from pipeline.dataset.manifest import Manifest
from pipeline.errors import DataError, LabelSpaceError
from pipeline.evaluation.metrics import cache_ratios, paired_difference
from pipeline.evaluation.predict import Predictions
from pipeline.evaluation.scores import Sample, score
from pipeline.labels import OTHER, LabelSpace
from pipeline.sections.dataset import Labels

FIGURES = [
    "accuracy", "macro_f1", "macro_f1_without_other", "hit_share", "hit_precision", "dominant_recall",
    "other_false_positive_rate", "other_false_discovery_rate", "always_other_accuracy",
]  # fmt: skip
SHARES = tuple(i / 100 for i in range(1, 100))


def fold(logits: NDArray[np.float32], names: Sequence[str], dominant: Sequence[str]) -> NDArray[np.float64]:
    """Logits of the dominant species and, last, of "Other": the log-sum-exp of all the rest, (photos, dominant + 1).

    Its softmax gives "Other" the sum of the rest's probabilities.
    """
    place = {name: i for i, name in enumerate(names)}
    if unknown := [name for name in dominant if name not in place]:
        raise LabelSpaceError(f"the model does not know {unknown[0]!r}, so it cannot stand in for a cache that does")
    kept = [place[name] for name in dominant]
    rest = np.delete(logits.astype(np.float64), kept, axis=1)
    if not rest.shape[1]:
        raise LabelSpaceError('every species is dominant, so nothing is left for "Other"; lower the threshold')
    top = rest.max(axis=1, keepdims=True)
    other = top + np.log(np.exp(rest - top).sum(axis=1, keepdims=True))
    return np.concatenate([logits[:, kept], other], axis=1)


def every_threshold(settings: Labels, manifest: Manifest, main: Predictions) -> pd.DataFrame:
    """Figures of the folded model per set of dominant species: threshold (the lowest that gives the set), labels, FIGURES."""
    composition = manifest.composition()
    rows, seen = [], set()
    for threshold in SHARES:
        try:
            ranking, n = ranked(settings, composition, threshold)
        except DataError:  # below the first species' share: there is no such cache
            continue
        if n in seen or n == len(ranking):
            continue
        seen.add(n)
        rows.append({"threshold": threshold, "labels": n + 1, **_figures(main, ranking[:n])})
    return pd.DataFrame(rows)


def beside_trained(caches: Sequence[Predictions], main: Predictions, seed: int) -> pd.DataFrame:
    """Each trained cache, and main folded to the very same labels, on the same photos; the difference is paired."""
    rows = []
    for cache in caches:
        labels = cache.labels
        truth = labels.ids(cache.rows["species"].tolist())
        answers = cache.logits.argmax(axis=1)
        folded = fold(main.logits, main.labels.names, labels.names[:-1]).argmax(axis=1)
        difference = paired_difference(folded == truth, answers == truth, seed)
        told = {f"folded_{name}": value for name, value in _figures(main, labels.names[:-1]).items()}
        rows.append(
            {"cache": cache.name, "start_rank": cache.card["window"][0], "threshold": cache.card["threshold"]}
            | {"labels": len(labels)}
            | _score(truth, answers, labels) | told | {f"folded_minus_trained_{k}": v for k, v in difference.items()}
        )  # fmt: skip
    return pd.DataFrame(rows)


def _figures(main: Predictions, dominant: Sequence[str]) -> dict[str, float]:
    labels = LabelSpace((*dominant, OTHER))
    answers = fold(main.logits, main.labels.names, dominant).argmax(axis=1)
    return _score(labels.ids(main.rows["species"].tolist()), answers, labels)


def _score(truth: NDArray[np.int64], answers: NDArray[np.int64], labels: LabelSpace) -> dict[str, float]:
    other = len(labels) - 1
    sample = Sample(truth, answers, len(labels), other, ratios=cache_ratios(truth, answers, other))
    found = score(sample, np.ones((1, len(truth))))
    return {name: float(found[name][0]) for name in FIGURES}
