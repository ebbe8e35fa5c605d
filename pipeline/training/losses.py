"""Loss functions: variants of cross-entropy for long tails, and distillation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.errors import LabelSpaceError
from pipeline.labels import OTHER, LabelSpace, translate
from pipeline.sections.training import Training
from pipeline.training.data import DRAWN

SURE = 1e-6  # focal loss: below it a power under 1 has no finite slope


@dataclass(frozen=True)
class Criterion:
    """The configured loss of logits (n, k) and labels (n,), or shares of labels (n, k) where photos were mixed: their sum,
    divided by their mass."""

    loss: Callable[[Tensor, Tensor], Tensor]
    weights: Tensor | None  # (k,)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.loss(logits, labels)

    def mass(self, labels: Tensor) -> Tensor:
        """Sum of the labels' weights, () float; without weights their number."""
        return mass(labels, self.weights)


def class_weights(counts: NDArray[np.int64], kind: str) -> Tensor | None:
    """Weight per label: "inverse" (1/n) and "sqrt_inverse" (1/sqrt n) with mean 1 over the labels that occur,
    "total_over_count" (all photos / n) as it is, "none"."""
    if kind == "none":
        return None
    power = {"inverse": 1.0, "total_over_count": 1.0, "sqrt_inverse": 0.5}[kind]
    weights = np.where(counts > 0, np.maximum(counts, 1) ** -power, 0.0)
    scale = 1 / counts.sum() if kind == "total_over_count" else weights[counts > 0].mean()
    return torch.tensor(weights / scale, dtype=torch.float32)


def criterion(settings: Training, counts: NDArray[np.int64], device: torch.device) -> Criterion:
    """The configured loss; counts: photos to train on per label."""
    weights, smoothing, loss = class_weights(counts, settings.class_weights), settings.label_smoothing, settings.loss
    weights = weights.to(device) if weights is not None else None
    if loss.name == "focal":
        return Criterion(
            lambda logits, labels: focal(logits, labels, loss.gamma, loss.alpha, smoothing, weights), weights
        )
    prior: Tensor | float = 0.0
    if loss.name == "logit_adjustment":
        prior = log_prior(counts, settings.sampler).to(device) * loss.tau
    return Criterion(lambda logits, labels: cross_entropy(logits + prior, labels, weights, smoothing), weights)


def mass(labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum of the weights (k,) of labels (n,), or of shares of labels (n, k); without weights the number of labels."""
    if weights is None:
        return torch.full((), float(len(labels)), device=labels.device)
    return weights[labels].sum() if labels.ndim == 1 else (labels * weights).sum()


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Weighted cross-entropy divided by the sum of weights, also for mixed labels, where PyTorch divides by the number."""
    whole = functional.cross_entropy(logits, labels, weights, reduction="sum", label_smoothing=smoothing)
    return whole / mass(labels, weights)


def log_prior(counts: NDArray[np.int64], sampler: str = "uniform") -> Tensor:
    """Logarithm of each label's share of the photos that the sampler draws; a label without photos counts as having one.

    Added to the logits while training, so that they need not carry it (Menon et al., "Long-tail learning via logit
    adjustment", 2021; with tau 1 the Balanced Softmax of Ren et al., 2020).
    """
    known = np.maximum(counts, 1) ** DRAWN[sampler]
    return torch.tensor(np.log(known / known.sum()), dtype=torch.float32)


def focal(
    logits: Tensor, labels: Tensor, gamma: float, alpha: float, smoothing: float, weights: Tensor | None
) -> Tensor:
    """Focal loss (Lin et al., "Focal Loss for Dense Object Detection", 2017) of the smoothed cross-entropy.

    The probability that plays easy photos down is the network's own, not one taken from the smoothed loss.
    """
    log_p = functional.log_softmax(logits, dim=1)
    smoothed = -(1 - smoothing) * log_p - smoothing * log_p.mean(1, keepdim=True)
    per_label = alpha * (1 - log_p.exp()).clamp_min(SURE) ** gamma * smoothed
    target = labels if labels.ndim == 2 else functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
    weighted = target if weights is None else target * weights
    return (weighted * per_label).sum() / mass(labels, weights)


def folding(teacher: LabelSpace, student: LabelSpace) -> Tensor:
    """Matrix (teacher labels, student labels) of 0 and 1 that adds up the teacher's probabilities by name.

    What the student does not know adds up to its "Other" (Hinton et al., "Distilling the Knowledge in a Neural
    Network", 2015, with classes merged).
    """
    target = translate(teacher.names, student.names)
    unknown = set(student.names) - set(teacher.names) - {OTHER}
    if (target < 0).any() or unknown:
        raise LabelSpaceError(
            f"the teacher's label space {teacher.hash} does not cover the student's {student.hash}"
            + (f": it lacks {sorted(unknown)[0]!r}" if unknown else "")
        )
    matrix = torch.zeros(len(teacher), len(student))
    matrix[torch.arange(len(teacher)), torch.from_numpy(target)] = 1
    return matrix


def distillation(logits: Tensor, taught: Sequence[tuple[Tensor, Tensor]], temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the student (n, s) from the folded teachers' mean, times temperature squared.

    taught: of each teacher its logits (n, t) and its folding (t, s). A teacher is folded first and softened after:
    softened first, the many species outside the window, each lifted a little, would add up to an "Other" that outweighs
    what the teacher is sure of.
    """
    folded = [functional.softmax(theirs, dim=1) @ fold for theirs, fold in taught]
    mean = folded[0] if len(folded) == 1 else torch.stack(folded).mean(0)
    target = functional.softmax(mean.clamp_min(1e-12).log() / temperature, dim=1)
    ours = functional.log_softmax(logits / temperature, dim=1)
    return functional.kl_div(ours, target, reduction="batchmean") * temperature**2
