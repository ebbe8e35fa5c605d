"""What the tests of the data set share: a server that plays iNaturalist, and a clock that only sleeping moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pipeline.dataset.sources.network import Policy, getter
from pipeline.dataset.sources.pages import Get

from .server import Server


class Clock:
    """Time that passes when someone sleeps; `sleeps` holds how long, each time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def asking(clock: Clock) -> Callable[..., Get]:
    """A getter by a policy with the given changes; waits cost no time."""

    def make(**changes: float) -> Get:
        return getter("test@example.org", Policy(**changes), clock, clock.sleep)  # type: ignore[arg-type]

    return make
