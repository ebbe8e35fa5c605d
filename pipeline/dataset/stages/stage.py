"""One stage of the data set: its inputs and outputs; it is skipped while both are unchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config import Config
from pipeline.console import log
from pipeline.errors import DataError
from pipeline.files import Stamp, run_once


@dataclass(frozen=True)
class Stage:
    """inputs: all that the result depends on; outputs: files in the data set's folder; run returns a summary line;
    intact: whether what it wrote elsewhere still stands; wanted: whether the configuration asks for it at all."""

    name: str
    inputs: Callable[[Config], Mapping[str, Any]]
    outputs: Callable[[Config], list[str]]
    run: Callable[[Config], str]
    intact: Callable[[Config], bool] = lambda config: True
    wanted: Callable[[Config], bool] = lambda config: True


def run_stage(config: Config, stage: Stage) -> None:
    """Run a stage unless it is up to date; a missing input names the stage to run first."""
    folder = config.dataset_dir
    try:
        inputs = stage.inputs(config)
    except FileNotFoundError as error:
        raise DataError(
            f"{stage.name} needs {error.filename}, which is not there; "
            f"run the stages before it first (--until {stage.name})"
        ) from error
    stamp = Stamp(folder / ".stamps" / f"{stage.name}.json", inputs, [folder / f for f in stage.outputs(config)])
    run_once(
        f"{stage.name:9}", stamp, config.global_.overwrite,
        lambda: log.info("%-9s %s", stage.name, stage.run(config)), lambda: stage.intact(config),
    )  # fmt: skip
