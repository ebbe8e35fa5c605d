"""Label spaces: an ordered tuple of names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

OTHER = "Other"


def label_hash(names: Sequence[str]) -> str:
    """Twelve hexadecimal digits that stand for this label space (names and their order)."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
