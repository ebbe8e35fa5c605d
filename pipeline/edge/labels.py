"""Label spaces: an ordered tuple of names, joined by name and never by index."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

OTHER = "Other"


def label_hash(names: Sequence[str]) -> str:
    """Twelve hexadecimal digits that stand for this label space (names and their order)."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]


def translate(source: Sequence[str], target: Sequence[str]) -> NDArray[np.int64]:
    """Index in `target` of each name of `source`; absent names get the index of "Other", or -1 if there is none."""
    index = {name: i for i, name in enumerate(target)}
    return np.array([index.get(name, index.get(OTHER, -1)) for name in source], dtype=np.int64)
