"""A toy experiment with its bundle, for the page: see toy.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import Experiment, write_evaluated

from pipeline.deploy.bundle import bundle


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The toy experiment after evaluation and packing; copy it before you change it."""
    drawn = write_evaluated(tmp_path_factory.mktemp("packed") / "root")
    bundle(drawn.config())
    return drawn


@pytest.fixture
def experiment(packed: Experiment, tmp_path: Path) -> Experiment:
    """The test's own copy."""
    return packed.copy(tmp_path / "root")
