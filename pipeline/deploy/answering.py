"""Find and load what serves predictions: the bundle of an experiment, or one of its exported models."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import Config
from pipeline.edge.cascade import Cascade, Stage, load_cascade
from pipeline.edge.model import Model
from pipeline.edge.rule import Rule
from pipeline.errors import ConfigError, ModelError
from pipeline.evaluation.predict import model_file


def place(config: Config, model: str | None = None, precision: str | None = None) -> Path:
    """The bundle's folder, or the exported file of the named model; a missing one is a ModelError.

    precision: of that model, none: route.precision.
    """
    if model:
        return model_file(config, model, precision or config.route.precision).resolve()
    if precision:
        raise ConfigError("--precision is of --model; a cascade has that of its bundle (route.precision of deploy.py)")
    folder = (config.output / "bundle").resolve()
    if not (folder / "cascade.json").is_file():
        raise ModelError(f"no bundle at {folder}; run deploy.py with the same --config first")
    return folder


def load(where: Path, threads: int = 1) -> Cascade:
    """The cascade of a bundle's folder, or of one exported file, which then answers every photo."""
    if where.suffix == ".onnx":
        return Cascade([Stage.of(where.parent.name, Model(where, threads), Rule())])
    return load_cascade(where, threads)
