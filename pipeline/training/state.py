"""The checkpoint last.pt, from which a killed training continues after its last complete epoch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from pipeline.console import log
from pipeline.errors import ModelError
from pipeline.files import replacing
from pipeline.models.checkpoint import ModelCard
from pipeline.models.weights import read_torch
from pipeline.training.average import Average
from pipeline.training.optimisation import Optimisation


@dataclass
class State:
    """Progress of a training."""

    epoch: int = 0  # epochs completed
    best: float = -math.inf  # best monitored value, higher is better
    best_epoch: int = -1  # its epoch, from 0
    history: list[dict[str, float]] = field(default_factory=list)  # a row of metrics per epoch
    unreadable: list[str] = field(default_factory=list)  # photos left out, with the reason


def save_last(path: Path, network: nn.Module, optimisation: Optimisation, average: Average | None,
              card: ModelCard, state: State) -> None:  # fmt: skip
    """Write the checkpoint atomically."""
    content = {
        "fingerprint": card.training["fingerprint"],
        "state": asdict(state),
        "metrics": card.metrics,
        "network": network.state_dict(),
        "optimisation": optimisation.state_dict(),
        "average": {"network": average.network.state_dict(), "steps": average.steps} if average else None,
    }
    with replacing(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # torch's error for a full disk
            raise OSError(f"{path} could not be written, the one before is kept: {error}") from error


def load_last(path: Path, network: nn.Module, optimisation: Optimisation, average: Average | None,
              card: ModelCard) -> State:  # fmt: skip
    """Restore everything; a new state where there is no checkpoint."""
    if not path.is_file():
        return State()
    content = read_torch(path)
    if content["fingerprint"] != card.training["fingerprint"]:
        raise ModelError(
            f"{path} belongs to a training with other settings or another manifest; go back to them, "
            "or train anew with --set global.overwrite=true"
        )
    network.load_state_dict(content["network"])
    optimisation.load_state_dict(content["optimisation"])
    if average:
        average.network.load_state_dict(content["average"]["network"])
        average.steps = content["average"]["steps"]
    card.metrics.update(content["metrics"])
    state = State(**content["state"])
    log.info("%s: going on after epoch %d", card.name, state.epoch)
    return state
