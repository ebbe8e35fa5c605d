"""Networks by name: MCUNet, any timm name, any torchvision name. A new family is one file and one line here."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.errors import ModelError
from pipeline.models import mcunet, torchvision_whole
from pipeline.models.weights import load_backbone, package_weights, read_weights

torchvision_whole.ensure()

import timm  # noqa: E402  (after ensure, on purpose)
import torchvision  # noqa: E402

Triple = tuple[float, float, float]
IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def family(name: str) -> str:
    """ "mcunet", "timm" or "torchvision"; an unknown name is a ModelError with the nearest known ones."""
    if name in mcunet.NAMES:
        return "mcunet"
    if timm.is_model(name):
        try:
            timm.models.get_pretrained_cfg(name)
        except RuntimeError as error:  # names can end in the tag of their weights, as in convnext_tiny.fb_in22k
            tags = timm.list_pretrained(f"{name.partition('.')[0]}.*")
            raise ModelError(f"no model {name!r}: {error} Known: {', '.join(tags) or 'none'}") from error
        return "timm"
    if name in torchvision.models.list_models(torchvision.models):
        return "torchvision"
    known = {*mcunet.NAMES, *timm.list_models(), *torchvision.models.list_models(torchvision.models)}
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    raise ModelError(f"no model {name!r}; {'near: ' + ', '.join(near) if near else 'take a timm or torchvision name'}")


def scaling(name: str) -> tuple[Triple, Triple]:
    """Mean and standard deviation per RGB channel, on [0, 1], that the published weights of this name expect."""
    kind = family(name)
    if kind == "mcunet":
        return mcunet.SCALING
    if kind == "timm" and (config := timm.models.get_pretrained_cfg(name)):
        return tuple(config.mean), tuple(config.std)
    return IMAGENET


def build(
    name: str, num_classes: int, arguments: dict[str, Any] | None = None, pretrained: bool | str | Path = False
) -> nn.Module:
    """A network with float input (n, 3, s, s), already scaled, and logits (n, num_classes).

    pretrained: False; True (from the model's server); "package" (see models.weights); or a file. The classifier is new.
    """
    arguments = arguments or {}
    kind = family(name)
    try:
        if pretrained is True and kind != "mcunet":
            return _from_hub(kind, name, num_classes, arguments)
        network = _bare(kind, name, num_classes, arguments)
    except TypeError as error:
        raise ModelError(f"{name} does not take the arguments {arguments}: {error}") from error
    if pretrained is True:
        load_backbone(network, mcunet.download(), mcunet.HEAD, mcunet.WEIGHTS)
    elif pretrained == "package":
        load_backbone(network, package_weights(name, _bare(kind, name, 1000, {})), head(network, kind), "the package")
    elif pretrained:
        load_backbone(network, read_weights(Path(pretrained)), head(network, kind), str(pretrained))
    return network


def head(network: nn.Module, kind: str) -> tuple[str, ...]:
    """Prefixes of the classifier's parameter names; distilled networks have two classifiers."""
    if kind == "mcunet":
        return (mcunet.HEAD,)
    config: dict[str, Any] = getattr(network, "pretrained_cfg", {})  # timm's
    if known := config.get("classifier"):
        return tuple(f"{name}." for name in ([known] if isinstance(known, str) else known))
    layers = [name for name, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    return (f"{layers[-1]}.",)


def _bare(kind: str, name: str, num_classes: int, arguments: dict[str, Any]) -> nn.Module:
    if kind == "mcunet":
        return mcunet.build(name, num_classes, arguments)
    if kind == "timm":
        network: nn.Module = timm.create_model(name, num_classes=num_classes, **arguments)
        return network
    made: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **arguments)
    return made


def _from_hub(kind: str, name: str, num_classes: int, arguments: dict[str, Any]) -> nn.Module:
    try:
        if kind == "timm":
            network: nn.Module = timm.create_model(name, pretrained=True, num_classes=num_classes, **arguments)
            return network
        state = torchvision.models.get_model_weights(name)["DEFAULT"].get_state_dict(check_hash=True)
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"the pretrained weights of {name} cannot be fetched ({' '.join(str(error).split())[:200]}); "
            "give a local file (pretrained: FILE) or pretrained: false"
        ) from error
    network = _bare(kind, name, num_classes, arguments)
    load_backbone(network, state, head(network, kind), name)
    return network
