"""Cost of communication: a file beside the results while the job runs, and a summary at the end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

EVERY = 60.0  # s
FORMAT_VERSION = 1


class Account:
    """The figures of a spool, with the share of all photos that reached main."""

    def __init__(self, path: Path, photos: Callable[[], int], figures: Callable[[], Mapping[str, int]]) -> None:
        """path: of the JSON file; photos: their number so far, waiting or not; figures: of the spool."""
        self._path, self._photos, self._figures, self._next = path, photos, figures, 0.0

    def write(self, soon: bool = False) -> dict[str, Any]:
        """Update the file and return its contents; soon: at most once a minute."""
        if soon and time.monotonic() < self._next:
            return {}
        photos, figures = self._photos(), self._figures()
        rate = round(figures["reached"] / photos, 4) if photos else None
        account = {"format_version": FORMAT_VERSION, "photos": photos, "communication_rate": rate, **figures}
        beside = self._path.with_name(f".{self._path.name}.tmp")
        with beside.open("w", encoding="utf-8") as file:
            file.write(json.dumps(account, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        self._next = time.monotonic() + EVERY
        return account


def sentence(account: Mapping[str, Any]) -> str:
    """An account as one line of text."""
    rate = f" (communication rate {account['communication_rate']:.1%})" if account["photos"] else ""
    kept = (
        f"{account['answered']} answered, {account['failed']} failed, {account['waiting']} wait "
        f"of {account['kept']} that were kept"
    )
    cost = f"{account['sent_bytes'] / 1e6:.2f} MB sent in {account['requests']} requests"
    return f"main: {account['reached']} of {account['photos']} photos{rate}: {kept}; {cost}"
