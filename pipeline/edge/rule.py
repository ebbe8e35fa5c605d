"""The routing rule: when a stage answers, on the device and in every evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .labels import OTHER

Floats = NDArray[np.floating[Any]]
KINDS = ("confidence", "margin", "deferral")


@dataclass(frozen=True)
class Rule:
    """A stage answers when its best label is a species and its score is at least `threshold`.

    kind: "confidence" scores the best label's probability, "margin" its lead over the second one, "deferral" a logistic
    function of `features` (weights: one per feature, then the constant). temperature divides the logits first (Guo et
    al., On calibration of modern neural networks, 2017).
    """

    threshold: float = 0.0
    kind: str = "confidence"
    temperature: float = 1.0
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not self.temperature > 0 or len(self.weights) != 5 * (self.kind == "deferral"):
            raise ValueError(f"no rule that this version knows: {self}")

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Rule:
        """Read a rule back from JSON; unknown keys raise TypeError."""
        return Rule(**{**data, "weights": tuple(data["weights"])})

    def scores(self, logits: Floats, labels: Sequence[str]) -> tuple[Floats, Floats]:
        """(..., labels) -> score (...) of the best label, -1 where that is "Other", and the probabilities (..., labels)."""
        p = probabilities(logits, self.temperature)
        if self.kind == "confidence":
            score = p.max(axis=-1)
        elif self.kind == "margin":
            score = features(p, labels)[..., 1]
        else:
            score = 1 / (1 + np.exp(-(features(p, labels) @ np.array(self.weights[:-1]) + self.weights[-1])))
        return np.where(p.argmax(axis=-1) == _other(labels), -1.0, score), p


def probabilities(logits: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """Softmax over the last axis."""
    shifted = np.exp((logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)) / temperature)
    result: NDArray[np.float64] = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def features(p: Floats, labels: Sequence[str]) -> Floats:
    """Of probabilities (..., labels): best, lead over the second, entropy in nats, probability of "Other"; (..., 4)."""
    two = np.sort(p, axis=-1)[..., -2:]
    entropy = -(p * np.log(np.maximum(p, 1e-12))).sum(axis=-1)
    other = p[..., _other(labels)] if OTHER in labels else np.zeros_like(entropy)
    return np.stack([two[..., -1], two[..., -1] - two[..., 0], entropy, other], axis=-1)


def _other(labels: Sequence[str]) -> int:
    return labels.index(OTHER) if OTHER in labels else -1
