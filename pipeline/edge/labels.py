"""Label spaces (an ordered tuple of names) and the hashes of names and files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

OTHER = "Other"


def label_hash(names: Sequence[str]) -> str:
    """Twelve hexadecimal digits that stand for this label space (names and their order)."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
