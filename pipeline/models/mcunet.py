"""MCUNet (Lin et al., "MCUNet: Tiny Deep Learning on IoT Devices", NeurIPS 2020) by the `mcunet` package.

The architecture of mcunet-in2 is shipped as data, so building it needs no network. Those of its relatives, and all weights,
come from the authors' server where there is network, or from local files.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.errors import ModelError

SERVER = "https://hanlab18.mit.edu/projects/tinyml/mcunet/release/"
FILES = {
    "mcunet-in0": "mcunet-10fps_imagenet",
    "mcunet-in1": "mcunet-5fps_imagenet",
    "mcunet-in2": "mcunet-256kb-1mb_imagenet",
    "mcunet-in3": "mcunet-320kb-1mb_imagenet",
    "mcunet-in4": "mcunet-512kb-2mb_imagenet",
    "mcunet-vww0": "mcunet-10fps_vww",
    "mcunet-vww1": "mcunet-5fps_vww",
    "mcunet-vww2": "mcunet-320kb-1mb_vww",
    "mbv2-w0.35": "mbv2-w0.35-r144_imagenet",
    "proxyless-w0.3": "proxyless-w0.3-r176_imagenet",
}
SHIPPED = "mcunet-in2"
NAMES = tuple(FILES)
SCALING = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # of the published weights
HEAD = ("classifier.",)


def build(name: str, num_classes: int, arguments: dict[str, Any]) -> nn.Module:
    """Input (n, 3, s, s) float, output (n, num_classes) logits.

    arguments: drop_rate, before the classifier; config, the architecture, which resolve() gives to all but mcunet-in2.
    """
    from mcunet.tinynas.nn.networks import ProxylessNASNets

    if unknown := sorted(set(arguments) - {"drop_rate", "config"}):
        raise ModelError(f"{name} takes drop_rate and config, but the config gives {unknown}")
    # a copy for each network: the package's build_from_config empties the dict that it is given
    config = copy.deepcopy(resolve(name, arguments).get("config")) or _shipped()
    config["classifier"]["out_features"] = num_classes
    config["classifier"]["dropout_rate"] = arguments.get("drop_rate", config["classifier"].get("dropout_rate", 0))
    network: nn.Module = ProxylessNASNets.build_from_config(config)
    return network


def resolve(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with the architecture among them, so that a model folder can be read where there is no network."""
    if name == SHIPPED or "config" in arguments:
        return arguments
    return {**arguments, "config": _fetched(name)}


def download(name: str) -> dict[str, Any]:
    """The authors' state dict; an unreachable server is a ModelError."""
    import torch

    url = f"{SERVER}{FILES[name]}.pth"
    try:
        state: dict[str, Any] = torch.hub.load_state_dict_from_url(url, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"{url} cannot be reached ({error}); give a local file: pretrained: FILE") from error
    nested: dict[str, Any] = state.get("state_dict", state)
    return nested


def _shipped() -> dict[str, Any]:
    path = Path(__file__).with_name(f"{SHIPPED.replace('-', '_')}.json")
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def _fetched(name: str) -> dict[str, Any]:
    import urllib.request

    url = f"{SERVER}{FILES[name]}.json"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            config: dict[str, Any] = json.load(answer)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the architecture of {name} cannot be fetched from {url} ({error}); give its JSON as arguments: {{config: ...}}, "
            f"or take {SHIPPED}, which is here"
        ) from error
    return config
