"""Feature visualisation: the picture that a network wants to see, where that is known by hand; groups of channels."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import Experiment

from explaining.conftest import SIZE, Red, blob, subject
from pipeline.errors import ConfigError
from pipeline.explaining import visualise
from pipeline.explaining.dream import activations, channels, directions, dream, labels
from pipeline.explaining.network import outputs, seeded
from pipeline.explaining.visualise import PLACES, activation_grid, channel_groups
from pipeline.models.deployable import Deployable

ROOT = Path(__file__).resolve().parents[2]
LAYER = "network.relu"


def awake() -> Deployable:
    """The network that answers red, without the bias that keeps it still, and without a gradient, where there is none."""
    network = Red()
    torch.nn.init.constant_(network.red.bias, 0.3)
    return subject(network).model


def redness(picture: np.ndarray) -> float:
    return float((picture[..., 0].astype(float) - picture[..., 1:].mean(-1)).mean())


def test_what_answers_red_wants_to_see_red() -> None:
    red, other = dream(awake(), LAYER, labels([0, 1]), 2, SIZE, seed=0, steps=40)
    assert red.shape == (SIZE, SIZE, 3) and red.dtype == np.uint8
    assert redness(red) > 1 > -1 > redness(other)


def test_a_channel_and_its_direction_want_the_same() -> None:
    model = awake()
    by_number = dream(model, LAYER, channels([0]), 1, SIZE, seed=0, steps=40)
    by_direction = dream(model, LAYER, directions(torch.ones(1, 1)), 1, SIZE, seed=0, steps=40)
    assert redness(by_number) > 1 and redness(by_direction) > 1


def test_pictures_follow_the_seed() -> None:
    model = awake()
    one, same, other = (dream(model, LAYER, labels([0]), 1, SIZE, seed, steps=3) for seed in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_each_place_of_a_grid_is_as_bright_as_it_answers() -> None:
    asked, photo = subject(Red()), blob(4, 20)
    grid = activation_grid(asked, photo, LAYER, seed=0, steps=2)
    assert grid.shape == (PLACES * SIZE, PLACES * SIZE, 3)
    drawn = (255 - grid.astype(float)).reshape(PLACES, SIZE, PLACES, SIZE, 3).mean((1, 3, 4))
    row, column = np.unravel_index(drawn.argmax(), drawn.shape)
    assert row <= 1 and column >= 3
    assert (drawn[3:] == 0).all()  # nothing answers there: the paper stays white


class Turn(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1)


class Turned(Red):
    """Channels last for a while, as in ConvNeXt's blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.channels_last = Turn()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        turned: torch.Tensor = self.channels_last(x)
        answer: torch.Tensor = super().forward(turned.permute(0, 3, 1, 2))
        return answer


def test_a_layer_with_its_channels_last_is_refused() -> None:
    asked = subject(Turned())
    assert visualise._layer(asked, "red") == "network.red"
    with pytest.raises(ConfigError, match="has no layer 'channels_last' that gives channels over places"):
        visualise._layer(asked, "channels_last")


def test_groups_lie_where_their_channels_answer() -> None:
    asked, photo = subject(Red()), blob(4, 20)
    assert activations(asked.model, LAYER, photo).shape == (1, SIZE, SIZE)
    [(where, picture)] = channel_groups(asked, photo, 3, LAYER, seed=0, steps=2)  # there is one channel, so one group
    assert where.shape == (SIZE, SIZE) and where.max() == 1
    assert where[:16, 16:].sum() > 0.95 * where.sum()
    assert picture.shape == photo.shape


def call(arguments: list[str], experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> int:
    """explain.py in this process, with few steps."""
    monkeypatch.setattr(sys, "argv", ["explain.py", "--config", str(experiment.yaml), *arguments])
    monkeypatch.setattr("pipeline.explaining.visualise.STEPS", 2)
    monkeypatch.syspath_prepend(str(ROOT))
    code = importlib.import_module("explain").main()
    assert isinstance(code, int)
    return code


def test_species_channels_and_groups_are_drawn(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(["--visualise", "Apis mellifera", "0", "5"], experiment, monkeypatch) == 0
    photo = min((experiment.root / "regional").rglob("*.png"))
    assert call([str(photo), "--models", "main", "--groups", "2", "--layer", "layer3"], experiment, monkeypatch) == 0
    monkeypatch.setattr(visualise, "STEPS", 2)
    assert call([str(photo), "--models", "main", "--groups", "0"], experiment, monkeypatch) == 0
    folder = experiment.config().output / "explanations"
    assert sorted(path.name for path in folder.glob("*.png")) == [
        "grid_main_Insecta_Apis mellifera_00.png", "groups_main_Insecta_Apis mellifera_00.png",
        "wanted_cache_0.5_0.png", "wanted_main.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "other"),
    [
        ("--visualise 3", "--visualise 4"),
        ("PHOTO --groups 2", "PHOTO --groups 3"),
        ("PHOTO --groups 0", "OTHER --groups 0"),
    ],
)
def test_what_is_there_is_not_drawn_again(
    words: str, other: str, experiment: Experiment, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    dreamt: list[object] = []
    real = visualise.dream
    monkeypatch.setattr(visualise, "dream", lambda *given: (dreamt.append(given), real(*given))[1])
    photo, *_, second = sorted((experiment.root / "regional").rglob("*.png"))

    def drawn(words: str, *more: str) -> int:
        """How many pictures were optimised."""
        dreamt.clear()
        named = {"PHOTO": str(photo), "OTHER": str(second)}
        assert (
            call([*(named.get(w, w) for w in words.split()), "--models", "main", *more], experiment, monkeypatch) == 0
        )
        return len(dreamt)

    assert drawn(words) == 1
    lines()
    assert drawn(words) == 0
    assert [line for line in lines() if line.endswith(" up to date")]
    assert drawn(words, "--layer", "layer2") == 1  # another than the last one with places
    assert drawn(other) == 1
    assert drawn(other, "--set", "global.overwrite=true") == 1
    shutil.copy(second, photo)
    assert drawn(words) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--visualise", "Apis melifera"], "knows no species 'Apis melifera'; did you mean Apis mellifera?"),
        (["--visualise", "960"], "of cache_0.5_0 has channels 0 to "),
        (
            ["--visualise", "0", "--layer", "layr4"],
            "has no layer 'layr4' that gives channels over places; did you mean layer4",
        ),
    ],
)
def test_wrong_wishes_are_exit_code_2(
    arguments: list[str], said: str, experiment: Experiment, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert call(arguments, experiment, monkeypatch) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_what_an_error_interrupts_is_put_back() -> None:
    model = awake()

    def fail(*given: object) -> torch.Tensor:
        raise ValueError("no")

    hooks = lambda: [len(module._forward_hooks) for module in model.modules()]  # noqa: E731
    before, state, numpys = hooks(), torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    with pytest.raises(ValueError, match="no"):
        dream(model, LAYER, fail, 1, SIZE, seed=0, steps=1)
    with pytest.raises(ValueError, match="no"), seeded(3):
        fail()
    assert np.random.get_state()[1].tolist() == numpys  # type: ignore[index, union-attr]
    assert torch.equal(torch.random.get_rng_state(), state)
    for look in (lambda: activations(model, LAYER, np.zeros((4, 4, 5), np.uint8)), lambda: outputs(model, -1)):
        with pytest.raises(RuntimeError):
            look()
    assert hooks() == before
