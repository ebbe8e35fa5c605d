"""Limits of a server."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.errors import ConfigError

KINDS = ("image/jpeg", "image/png", "image/webp", "image/tiff", "image/bmp", "image/gif", "application/octet-stream")


@dataclass(frozen=True)
class Limits:
    """queue: photos waiting or in work; batch: photos per call of a network; wait_ms: for a batch to fill; timeout: s.

    body_mb is of one request, held_mb of all that are read and not yet answered. megapixels is of one photo; those that
    are decoded at the same time have twice as many in all.
    """

    queue: int = 64
    batch: int = 8
    wait_ms: float = 2.0
    body_mb: float = 32.0
    held_mb: float = 256.0
    photos: int = 32
    megapixels: float = 50.0
    timeout: float = 30.0
    connections: int = 512

    def __post_init__(self) -> None:
        least = {name: 0.0 if name == "wait_ms" else math.ulp(0.0) for name in vars(self)}
        if wrong := [name for name, value in vars(self).items() if not least[name] <= value < math.inf]:
            raise ConfigError(
                f"the limits of a server must be above 0 and finite: {wrong[0]} is {vars(self)[wrong[0]]}"
            )
        if self.photos > self.queue:
            raise ConfigError(f"a request of {self.photos} photos never fits a queue of {self.queue}; raise --queue")
        if self.body_mb > self.held_mb:
            raise ConfigError(f"a request of {self.body_mb:g} MB never fits the {self.held_mb:g} MB of all; lower it")
