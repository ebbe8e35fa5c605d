"""What a server takes at most, and which formats of photos it opens."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import ConfigError

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")  # Pillow has decoders that call other programs
KINDS = ("image/jpeg", "image/png", "image/webp", "image/tiff", "image/bmp", "image/gif", "application/octet-stream")


@dataclass(frozen=True)
class Limits:
    """queue: photos waiting or in work; batch: photos per call of a network; wait_ms: for a batch to fill; timeout: s.

    body_mb is of one request, held_mb of all that are read and not yet answered.
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
        if any(value <= 0 for name, value in vars(self).items() if name != "wait_ms") or self.wait_ms < 0:
            raise ConfigError(f"the limits of a server must be above 0: {self}")
        if self.photos > self.queue:
            raise ConfigError(f"a request of {self.photos} photos never fits a queue of {self.queue}; raise --queue")
        if self.body_mb > self.held_mb:
            raise ConfigError(f"a request of {self.body_mb:g} MB never fits the {self.held_mb:g} MB of all; lower it")
