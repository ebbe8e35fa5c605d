"""A toy experiment, ready to be evaluated, and evaluated: see toy.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import Experiment, write_experiment

from pipeline.config import Config
from pipeline.evaluation.run import evaluate


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return write_experiment(tmp_path_factory.mktemp("drawn") / "root")


@pytest.fixture
def experiment(drawn: Experiment, tmp_path: Path) -> Experiment:
    """The test's own copy."""
    return drawn.copy(tmp_path / "root")


@pytest.fixture(scope="session")
def measured(drawn: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The toy experiment after evaluation; copy it."""
    copy = drawn.copy(tmp_path_factory.mktemp("measured") / "root")
    evaluate(copy.config())
    return copy


@pytest.fixture
def evaluated(measured: Experiment, tmp_path: Path) -> Config:
    """The toy experiment after evaluation."""
    return measured.copy(tmp_path / "evaluated").config()
