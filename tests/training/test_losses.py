"""Weights per label, the teacher's probabilities added up by name, and the distillation loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.errors import LabelSpaceError
from pipeline.labels import LabelSpace
from pipeline.training.losses import class_weights, criterion, distillation, folding

from .conftest import settings

TEACHER = LabelSpace(("Apis", "Bombus", "Colias", "Danaus"))
STUDENT = LabelSpace(("Colias", "Apis", "Other"))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("inverse", [0.4, 0, 1.6]),
        ("sqrt_inverse", [2 / 3, 0, 4 / 3]),
        ("total_over_count", [5 / 4, 0, 5]),
        ("none", None),
    ],
)
def test_class_weights_count_only_the_labels_that_occur(kind: str, expected: list[float] | None) -> None:
    weights = class_weights(np.array([4, 0, 1]), kind)
    assert (weights if weights is None else weights.tolist()) == (expected and pytest.approx(expected))


def test_equal_counts_weigh_one() -> None:
    for kind in ("inverse", "sqrt_inverse"):
        assert class_weights(np.array([5, 5, 5]), kind).tolist() == [1, 1, 1]


def test_teachers_outside_species_add_up_to_other() -> None:
    probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.0, 0.5, 0.0, 0.5]])
    folded = probabilities @ folding(TEACHER, STUDENT)
    torch.testing.assert_close(folded, torch.tensor([[0.3, 0.1, 0.6], [0.0, 0.0, 1.0]]))


def test_same_species_in_another_order_are_joined_by_name() -> None:
    shuffled = LabelSpace(("Danaus", "Apis", "Colias", "Bombus"))
    folded = torch.tensor([[0.1, 0.2, 0.3, 0.4]]) @ folding(TEACHER, shuffled)
    torch.testing.assert_close(folded, torch.tensor([[0.4, 0.1, 0.3, 0.2]]))


def test_teachers_own_other_goes_to_the_students() -> None:
    teacher = LabelSpace(("Apis", "Colias", "Bombus", "Other"))
    folded = torch.tensor([[0.1, 0.2, 0.3, 0.4]]) @ folding(teacher, STUDENT)
    torch.testing.assert_close(folded, torch.tensor([[0.2, 0.1, 0.7]]))


@pytest.mark.parametrize(
    ("student", "message"),
    [
        (("Apis", "Vanessa", "Other"), "does not cover the student's .*: it lacks 'Vanessa'"),
        (("Apis", "Bombus", "Colias"), "does not cover the student's"),
    ],
)
def test_teacher_that_does_not_cover_the_student_is_refused(student: tuple[str, ...], message: str) -> None:
    space = LabelSpace(student)
    with pytest.raises(LabelSpaceError, match=f"{TEACHER.hash} {message}"):
        folding(TEACHER, space)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_distillation_is_zero_where_the_student_equals_the_folded_teacher(temperature: float) -> None:
    fold, theirs = folding(TEACHER, STUDENT), torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 3.0, 0.0, 0.5]])
    ours = torch.log(functional.softmax(theirs, dim=1) @ fold)  # softened alike on both sides
    assert float(distillation(ours, [(theirs, fold)], temperature)) == pytest.approx(0, abs=1e-5)
    shifted = ours + torch.tensor([[7.0], [-3.0]])  # softmax does not see it
    assert float(distillation(shifted, [(theirs, fold)], temperature)) == pytest.approx(0, abs=1e-5)
    assert float(distillation(ours.flip(1), [(theirs, fold)], temperature)) > 0.1


def test_distillation_is_the_mean_divergence_times_temperature_squared() -> None:
    rng, t = np.random.default_rng(0), 3.0
    ours, theirs = rng.normal(size=(5, 3)) * 4, rng.normal(size=(5, 4)) * 4

    def softmax(x: np.ndarray) -> np.ndarray:
        return np.exp(x) / np.exp(x).sum(1, keepdims=True)

    fold = folding(TEACHER, STUDENT)
    p, q = softmax(np.log(softmax(theirs) @ fold.numpy()) / t), softmax(ours / t)
    expected = (p * np.log(p / q)).sum(1).mean() * t**2
    found = distillation(torch.tensor(ours), [(torch.tensor(theirs), fold.double())], t)
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_many_unlikely_species_do_not_outweigh_a_sure_teacher() -> None:
    names = tuple(f"species {i}" for i in range(144))
    sure = torch.zeros(1, 144)
    sure[0, 0] = 8.0  # probability .95 of the one species that the student knows
    ours = torch.zeros(1, 2, requires_grad=True)
    distillation(ours, [(sure, folding(LabelSpace(names), LabelSpace((names[0], "Other"))))], 2.0).backward()
    assert ours.grad is not None
    assert ours.grad[0, 0] < -0.3  # pulled towards the species; softened before folding, it would be pushed to Other


def test_distillation_pulls_the_student_towards_the_teacher() -> None:
    ours = torch.zeros(1, 3, requires_grad=True)
    distillation(ours, [(torch.tensor([[0.0, 9.0, 0.0, 0.0]]), folding(TEACHER, STUDENT))], 1.0).backward()
    colias, apis, other = ours.grad[0].tolist()  # the teacher says Bombus, which the student calls Other
    assert colias > 0
    assert apis > 0
    assert other == pytest.approx(-(colias + apis))


COUNTS = np.array([100, 10, 1])
LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 1.0, 1.0], [-1.0, 2.0, 0.0]])
WANTED = torch.tensor([0, 1, 2, 1])


def loss(logits: torch.Tensor = LOGITS, wanted: torch.Tensor = WANTED, **changes: Any) -> torch.Tensor:
    changes.setdefault("label_smoothing", 0.0)
    return criterion(settings(**changes), COUNTS, torch.device("cpu"))(logits, wanted)


@pytest.mark.parametrize("smoothing", [0.0, 0.15])
@pytest.mark.parametrize("weights", ["none", "inverse", "total_over_count"])
def test_focal_loss_without_focus_is_cross_entropy(smoothing: float, weights: str) -> None:
    if smoothing and weights != "none":
        pytest.skip("PyTorch weighs the smoothed part by each label's own weight")
    changes = {"class_weights": weights, "label_smoothing": smoothing}
    plain = loss(loss={"name": "cross_entropy"}, **changes)
    torch.testing.assert_close(loss(loss={"name": "focal", "gamma": 0.0}, **changes), plain)


def test_focal_loss_is_its_formula() -> None:
    p = functional.softmax(LOGITS, dim=1)[torch.arange(4), WANTED]
    expected = (3 * (1 - p) ** 2 * -p.log()).mean()
    torch.testing.assert_close(loss(loss={"name": "focal", "gamma": 2.0, "alpha": 3.0}), expected)


def test_smoothing_does_not_change_what_focal_loss_calls_easy() -> None:
    log_p = functional.log_softmax(LOGITS, dim=1)
    smoothed = -0.9 * log_p - 0.1 * log_p.mean(1, keepdim=True)
    expected = ((1 - log_p.exp()) ** 2 * smoothed)[torch.arange(4), WANTED].mean()
    torch.testing.assert_close(loss(loss={"name": "focal"}, label_smoothing=0.1), expected)


@pytest.mark.parametrize("weights", ["none", "inverse", "sqrt_inverse", "total_over_count"])
@pytest.mark.parametrize("name", ["cross_entropy", "focal", "logit_adjustment"])
def test_mixed_labels_share_the_loss_by_their_weights(name: str, weights: str) -> None:
    other = torch.tensor([2, 0, 1, 1])
    shares = 0.3 * functional.one_hot(WANTED, 3) + 0.7 * functional.one_hot(other, 3)
    given = {"loss": {"name": name}, "label_smoothing": 0.1, "class_weights": weights}
    each = class_weights(COUNTS, weights)
    first, second = (4.0 if each is None else float(each[labels].sum()) for labels in (WANTED, other))
    expected = 0.3 * first * loss(**given) + 0.7 * second * loss(wanted=other, **given)
    torch.testing.assert_close(loss(wanted=shares, **given), expected / (0.3 * first + 0.7 * second))


def test_logit_adjustment_with_tau_1_is_balanced_softmax() -> None:
    counts = torch.tensor(COUNTS, dtype=torch.float32)
    weighed = LOGITS.exp() * counts
    expected = -(weighed / weighed.sum(1, keepdim=True))[torch.arange(4), WANTED].log().mean()
    torch.testing.assert_close(loss(loss={"name": "logit_adjustment"}), expected)
    torch.testing.assert_close(loss(loss={"name": "logit_adjustment", "tau": 0.0}), loss())


def test_label_without_photos_leaves_logit_adjustment_finite() -> None:
    made = criterion(settings(loss={"name": "logit_adjustment"}), np.array([5, 0, 1]), torch.device("cpu"))
    assert torch.isfinite(made(LOGITS, WANTED))


def test_several_teachers_teach_their_mean() -> None:
    fold, ours = folding(TEACHER, STUDENT), torch.zeros(1, 3)
    sure, unsure = torch.tensor([[9.0, 0.0, 0.0, 0.0]]), torch.zeros(1, 4)
    mean = (functional.softmax(sure, 1) @ fold + functional.softmax(unsure, 1) @ fold) / 2
    expected = functional.kl_div(functional.log_softmax(ours, 1), mean, reduction="batchmean")
    torch.testing.assert_close(distillation(ours, [(sure, fold), (unsure, fold)], 1.0), expected)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_of_a_photo_beyond_doubt_has_a_finite_gradient(gamma: float) -> None:
    logits = torch.tensor([[40.0, 0.0, 0.0]], requires_grad=True)
    chosen = settings(loss={"name": "focal", "gamma": gamma}, label_smoothing=0.0)
    loss = criterion(chosen, np.array([5, 3, 2]), torch.device("cpu"))(logits, torch.tensor([0]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(("sampler", "like"), [("balanced", [1, 1, 1]), ("square_root", [10, 5, 1])])
def test_logit_adjustment_knows_what_the_sampler_draws(sampler: str, like: list[int]) -> None:
    counts, logits, labels = np.array([100, 25, 1]), torch.randn(4, 3), torch.tensor([0, 1, 2, 2])
    adjusted = {"name": "logit_adjustment"}
    drawn = criterion(settings(loss=adjusted, sampler=sampler), counts, torch.device("cpu"))
    plain = criterion(settings(loss=adjusted), np.array(like), torch.device("cpu"))
    assert torch.allclose(drawn(logits, labels), plain(logits, labels))
