"""Networks by name: MCUNet, any timm name, any torchvision name. A new family is one file and one line here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from pipeline.errors import ModelError, did_you_mean
from pipeline.models import attention, mcunet, torchvision_shim
from pipeline.models.weights import load_backbone, package_weights, read_weights

torchvision_shim.ensure()

import timm  # noqa: E402  (after ensure, on purpose)
import torchvision  # noqa: E402

Triple = tuple[float, float, float]
IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OWN = {name: module for module in (mcunet, attention) for name in module.NAMES}
PORTED = "googlenet"  # of torchvision, ported from TensorFlow: different scaling
AUXILIARY = ("aux1.fc2", "aux2.fc2", "AuxLogits.fc")  # classifiers used in training only


def family(name: str) -> str:
    """ "own", "timm" or "torchvision"; an unknown name is a ModelError with the nearest known ones."""
    if name in OWN:
        return "own"
    if timm.is_model(name):
        try:
            timm.models.get_pretrained_cfg(name)
        except RuntimeError as error:  # names can end in the tag of their weights, as in convnext_tiny.fb_in22k
            tags = timm.list_pretrained(f"{name.partition('.')[0]}.*")
            raise ModelError(f"no model {name!r}: {error} Known: {', '.join(tags) or 'none'}") from error
        return "timm"
    if name in torchvision.models.list_models(torchvision.models):
        return "torchvision"
    known = {*OWN, *timm.list_models(), *torchvision.models.list_models(torchvision.models)}
    raise ModelError(f"no model {name!r}; {did_you_mean(name, known, 'take a timm or torchvision name')}")


def scaling(name: str) -> tuple[Triple, Triple]:
    """Mean and standard deviation per RGB channel, on [0, 1], that the published weights of this name expect."""
    kind = family(name)
    if name in mcunet.NAMES or name == PORTED:
        return mcunet.SCALING
    if kind == "timm" and (config := timm.models.get_pretrained_cfg(name)):
        return tuple(config.mean), tuple(config.std)
    return IMAGENET


def resolve(name: str, size: int, arguments: dict[str, Any]) -> dict[str, Any]:
    """All arguments needed to rebuild this network, with the input size for those built for a fixed one."""
    if name in mcunet.NAMES:
        return mcunet.resolve(name, arguments)
    config = timm.models.get_pretrained_cfg(name) if family(name) == "timm" else None
    if config and config.fixed_input_size and config.input_size[-1] != size:
        return {"img_size": size, **arguments}
    return arguments


def build(
    name: str, num_classes: int, arguments: dict[str, Any] | None = None, pretrained: bool | str | Path = False
) -> nn.Module:
    """A network with float input (n, 3, s, s), already scaled, and logits (n, num_classes).

    pretrained: False; True (from the model's server); "package" (see models.weights); or a file. The classifier is new.
    While training, a network with auxiliary classifiers gives a tuple: logits, then theirs.
    """
    arguments = arguments or {}
    try:
        if pretrained is True and family(name) == "timm":
            return _from_hub(name, num_classes, arguments)
        network = _bare(name, num_classes, arguments)
    except (TypeError, AssertionError) as error:
        raise ModelError(f"{name} does not take the arguments {arguments}: {error}") from error
    if pretrained is True:
        load_backbone(network, _published(name), head(network), name)
    elif pretrained == "package":
        load_backbone(network, package_weights(name, _bare(name, 1000, {})), head(network), "the package")
    elif pretrained:
        load_backbone(network, read_weights(Path(pretrained)), head(network), str(pretrained))
    return network


def head(network: nn.Module) -> tuple[str, ...]:
    """Prefixes of the classifiers' parameter names: those of a distilled network and auxiliary ones too."""
    if isinstance(network, attention.AttentiveResNet):
        return attention.HEAD
    config: dict[str, Any] = getattr(network, "pretrained_cfg", {})  # timm's
    layers = [name for name, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    if known := config.get("classifier"):
        last = [known] if isinstance(known, str) else list(known)
    else:
        last = ["classifier"] if layers[-1:] == ["classifier.linear"] else layers[-1:]  # MCUNet's is wrapped
    return tuple(f"{name}." for name in [*last, *(name for name in layers if name in AUXILIARY)])


def _bare(name: str, num_classes: int, arguments: dict[str, Any]) -> nn.Module:
    kind = family(name)
    if kind == "own":
        own: nn.Module = OWN[name].build(name, num_classes, arguments)
        return own
    if kind == "timm":
        network: nn.Module = timm.create_model(name, num_classes=num_classes, **arguments)
        return network
    given = {"init_weights": True, **arguments} if name == PORTED else arguments
    made: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **given)
    return made


def _from_hub(name: str, num_classes: int, arguments: dict[str, Any]) -> nn.Module:
    try:
        network: nn.Module = timm.create_model(name, pretrained=True, num_classes=num_classes, **arguments)
    except (OSError, RuntimeError) as error:
        raise _unreachable(name, error) from error
    return network


def _published(name: str) -> dict[str, Any]:
    """State dict of the published weights, except timm's."""
    if name in mcunet.NAMES:
        return mcunet.download(name)
    base = attention.BASE if name in attention.NAMES else name
    try:
        state: dict[str, Any] = torchvision.models.get_model_weights(base)["DEFAULT"].get_state_dict(check_hash=True)
    except (OSError, RuntimeError) as error:
        raise _unreachable(name, error) from error
    return state


def _unreachable(name: str, error: Exception) -> ModelError:
    return ModelError(
        f"the pretrained weights of {name} cannot be fetched ({' '.join(str(error).split())[:200]}); "
        "give a local file (pretrained: FILE) or pretrained: false"
    )
