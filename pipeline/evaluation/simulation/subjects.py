"""Systems that can be simulated, as a sample of photos with truth, answer and route: a model, a cascade, caches without main."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.evaluation.metrics import Ratios, cache_ratios
from pipeline.evaluation.predict import Predictions
from pipeline.evaluation.routing import Rules, route, truth_ids
from pipeline.evaluation.scores import Floats, Sample
from pipeline.evaluation.tables import count_confusion
from pipeline.labels import LabelSpace, translate

CASCADES = ("both", "caches")


@dataclass(frozen=True)
class Subject:
    """rows: image_path, species; sample: their truth and answers as indexes of labels."""

    rows: pd.DataFrame
    sample: Sample
    labels: LabelSpace

    def confusion(self, weights: Floats) -> pd.DataFrame:
        """Photos per true and answered label, each photo counted by its weight."""
        return count_confusion(self.sample.truth, self.sample.answers, self.labels, weights)


def model_subject(table: Predictions, labels: LabelSpace) -> Subject:
    """One model alone; what it does not call "Other" it keeps, and main, which always answers, is asked for every photo.

    labels: the space of truth and answers; an answer that is not in it is outside, and wrong.
    """
    truth = labels.ids(table.rows["species"].tolist())
    answers = translate(table.labels.names, labels.names)[table.logits.argmax(axis=1)]
    everything = np.ones(len(truth))
    if labels.has_other:
        return Subject(
            table.rows,
            Sample(truth, answers, len(labels), len(labels) - 1, ratios=cache_ratios(truth, answers, len(labels) - 1)),
            labels,
        )
    ratios: Ratios = {"communication_rate": (everything, everything)}
    if labels != table.labels:
        ratios["outside_rate"] = (answers < 0, everything)
    return Subject(table.rows, Sample(truth, answers, len(labels), ratios=ratios), labels)


def cascade_subject(tables: list[Predictions], rules: Rules, labels: LabelSpace) -> Subject:
    """All stages in order, over the region's species. Without main, what no cache answers is sent on and stays without an
    answer.
    """
    routed = route(tables, rules)
    names = np.array([*translate(routed.labels.names, labels.names), -1])  # -1 maps to -1
    truth, answers = truth_ids(tables[0].rows["species"].tolist(), labels), names[routed.answers]
    everything, right, sent_on = np.ones(len(truth)), answers == truth, routed.sent_on
    ratios: Ratios = {"communication_rate": (sent_on, everything), "saving_rate": (~sent_on, everything)}
    for k, table in enumerate(tables):
        mine = routed.answered(k)
        ratios[f"hit_rate_{table.name}"] = (mine, everything)
        ratios[f"error_rate_{table.name}"] = (mine & ~right, mine)
    return Subject(tables[0].rows, Sample(truth, answers, len(labels), ratios=ratios), labels)
