"""Start from a trained model folder: copy its backbone, and the classifier's rows of species that both models know."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from pipeline.errors import ModelError
from pipeline.files import sha256
from pipeline.labels import OTHER, LabelSpace
from pipeline.models.checkpoint import finished_model, read_card
from pipeline.models.registry import build, head
from pipeline.models.weights import load_backbone


def reuse(network: nn.Module, architecture: str, labels: LabelSpace, folder: Path) -> int:
    """Load a model folder's weights into `network`; returns how many labels' rows of the classifier were taken over.

    Rows are joined by name. "Other" is taken over only where the label spaces agree: else it stands for other species.
    """
    foreign, card = finished_model(folder)
    if card.architecture != architecture:
        raise ModelError(
            f"{folder} is a {card.architecture}, not a {architecture}; give weights of the same architecture"
        )
    state = foreign.state_dict()
    classifier = head(network)
    load_backbone(network, state, classifier, str(folder))
    own, given = (
        {name: list(tensor.shape) for name, tensor in whole.items() if name.startswith(classifier)}
        for whole in (network.state_dict(), state)
    )
    if own.keys() != given.keys() or any(
        given[name] not in (shape, [len(card.labels), *shape[1:]]) for name, shape in own.items()
    ):
        raise ModelError(f"{folder} has a classifier of other layers; give the same arguments: {card.arguments}")
    shared = [name for name in labels.names if name in card.labels.names]
    if labels != card.labels:
        shared = [name for name in shared if name != OTHER]
    ours, theirs = ([space.names.index(name) for name in shared] for space in (labels, card.labels))
    with torch.device("meta"):
        wider = build(architecture, len(labels) + 1, card.arguments).state_dict()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if wider[name].shape != tensor.shape:  # a row per label
                tensor[ours] = state[name][theirs]
            elif name.startswith(classifier):  # an inner layer of a deep classifier
                tensor.copy_(state[name])
    return len(shared)


def weights_hash(source: Path) -> str:
    """The entry of a weights file or a model folder in a fingerprint."""
    if source.is_dir():
        return read_card(source).weights_sha256
    return sha256(source) if source.is_file() else str(source)
