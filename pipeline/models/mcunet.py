"""MCUNet (Lin et al., "MCUNet: Tiny Deep Learning on IoT Devices", NeurIPS 2020) by the `mcunet` package.

The architecture of mcunet-in2 is shipped as data, so building it needs no network. Its weights come from the authors'
server where there is network, or from a local file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.errors import ModelError

NAMES = ("mcunet-in2",)
SCALING = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # what the published weights were trained with
WEIGHTS = "https://hanlab18.mit.edu/projects/tinyml/mcunet/release/mcunet-256kb-1mb_imagenet.pth"
HEAD = "classifier."


def build(name: str, num_classes: int, arguments: dict[str, Any]) -> nn.Module:
    """Input (n, 3, s, s) float, output (n, num_classes) logits. No arguments are known."""
    from mcunet.tinynas.nn.networks import ProxylessNASNets

    if arguments:
        raise ModelError(f"{name} takes no arguments, but the config gives {sorted(arguments)}")
    # read anew for each network: the package's build_from_config empties the dict that it is given
    config = json.loads(Path(__file__).with_name(f"{name.replace('-', '_')}.json").read_text(encoding="utf-8"))
    config["classifier"]["out_features"] = num_classes
    network: nn.Module = ProxylessNASNets.build_from_config(config)
    return network


def download() -> dict[str, Any]:
    """The authors' ImageNet state dict; an unreachable server is a ModelError."""
    import torch

    try:
        state: dict[str, Any] = torch.hub.load_state_dict_from_url(WEIGHTS, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"{WEIGHTS} cannot be reached ({error}); give a local file: pretrained: FILE") from error
    nested: dict[str, Any] = state.get("state_dict", state)
    return nested
