"""What training makes small: cross-entropy, weighted for the long tail, and the teacher's folded probabilities."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.edge.labels import translate
from pipeline.errors import LabelSpaceError
from pipeline.labels import LabelSpace


def class_weights(counts: NDArray[np.int64], kind: str) -> Tensor | None:
    """Weight per label with mean 1 over the labels that occur: "inverse" (1/n), "sqrt_inverse" (1/sqrt n), "none"."""
    if kind == "none":
        return None
    power = {"inverse": 1.0, "sqrt_inverse": 0.5}[kind]
    weights = np.where(counts > 0, np.maximum(counts, 1) ** -power, 0.0)
    return torch.tensor(weights / weights[counts > 0].mean(), dtype=torch.float32)


def folding(teacher: LabelSpace, student: LabelSpace) -> Tensor:
    """Matrix (teacher labels, student labels) of 0 and 1 that adds up the teacher's probabilities by name.

    What the student does not know adds up to its "Other" (Hinton et al., "Distilling the Knowledge in a Neural
    Network", 2015, with classes merged).
    """
    target = translate(teacher.names, student.names)
    unknown = set(student.names) - set(teacher.names) - {"Other"}
    if (target < 0).any() or unknown:
        raise LabelSpaceError(
            f"the teacher's label space {teacher.hash} does not cover the student's {student.hash}"
            + (f": it lacks {sorted(unknown)[0]!r}" if unknown else "")
        )
    matrix = torch.zeros(len(teacher), len(student))
    matrix[torch.arange(len(teacher)), torch.from_numpy(target)] = 1
    return matrix


def distillation(logits: Tensor, teacher_logits: Tensor, fold: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the student (n, s) from the folded teacher (n, t), times temperature squared.

    The teacher is folded first and softened after: softened first, the many species outside the window, each lifted a
    little, would add up to an "Other" that outweighs what the teacher is sure of.
    """
    folded = functional.softmax(teacher_logits, dim=1) @ fold
    target = functional.softmax(folded.clamp_min(1e-12).log() / temperature, dim=1)
    ours = functional.log_softmax(logits / temperature, dim=1)
    return functional.kl_div(ours, target, reduction="batchmean") * temperature**2
