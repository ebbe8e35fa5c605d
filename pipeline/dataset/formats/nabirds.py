"""NABirds: the tables of CUB-200-2011 under other names, and photographers.txt.

Van Horn et al., "Building a bird recognition app and large scale dataset with citizen scientists", CVPR 2015.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.dataset.formats import cub200
from pipeline.dataset.formats.base import Listing, Want

FORM = cub200.FORM


def read(root: Path, want: Want) -> Listing:
    """555 visual categories by their English names (sex, age and morph in brackets), group Aves, official parts."""
    return cub200.read_tables(root, want, lambda name: name)
