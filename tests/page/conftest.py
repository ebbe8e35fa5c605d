"""A toy experiment with its bundle, for the page: see toy.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import Experiment, write_experiment

from pipeline.deploy.bundle import bundle
from pipeline.evaluation import metrics
from pipeline.evaluation.run import evaluate


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The toy experiment after evaluation and packing; copy it before you change it."""
    drawn = write_experiment(tmp_path_factory.mktemp("packed") / "root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "RESAMPLES", 50)
        evaluate(drawn.config())
    bundle(drawn.config())
    return drawn


@pytest.fixture
def experiment(packed: Experiment, tmp_path: Path) -> Experiment:
    """The test's own copy."""
    return packed.copy(tmp_path / "root")
