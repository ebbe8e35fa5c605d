"""What the tests of the server share."""

from __future__ import annotations

import time
from collections.abc import Callable

from pipeline.serving.limits import Limits

TOKEN = "0123456789abcdef0123456789abcdef"
LIMITS = Limits(queue=8, batch=4, photos=4, body_mb=0.2, held_mb=0.5, megapixels=1, timeout=0.5)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)
