"""Attribution methods, by Captum; each method is one function and one line of METHODS."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import ConfigError, ModelError, did_you_mean
from pipeline.explaining.network import ClippedReLU, last_map, neutral, outputs, seeded, smooth_activations
from pipeline.models.deployable import Deployable

try:
    from captum import attr
    from captum.attr._core import deep_lift
except ImportError as error:
    raise ModelError(
        "explanations are drawn by Captum, which is not installed; pip install 'ommatidia[explain]'"
    ) from error

Map = NDArray[np.float32]
Method = Callable[[Deployable, Tensor, int], Tensor]
STEPS = 32  # of the path from the neutral colour to the photo
NOISY, NOISE = 8, 0.15 * 255  # copies, and their noise: smoothing of 10-20 % of the range (Smilkov et al., 2017)
WINDOWS = 6  # an occluding square is 1/WINDOWS of the side wide, and moves by half its width
SMOOTHING = 40  # a map of single pixels is blurred by 1/SMOOTHING of the side, to be visible
MISSING = 0.1  # largest relative error of the sum of DeepLift's contributions
PIECEWISE = (ClippedReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid)  # DeepLift's rescale rule fits them as well


def integrated_gradients(model: Deployable, photo: Tensor, target: int) -> Tensor:
    """Sundararajan et al., ICML 2017; path from the neutral colour."""
    return _evidence(_integrated(model, photo, target, n_steps=STEPS))


def noise_tunnel(model: Deployable, photo: Tensor, target: int) -> Tensor:
    """Integrated Gradients, averaged over noisy copies (SmoothGrad, Smilkov et al., 2017)."""
    tunnel = attr.NoiseTunnel(attr.IntegratedGradients(model))
    given = {"target": target, "baselines": _blank(model, photo), "n_steps": STEPS // 2}
    return _evidence(tunnel.attribute(photo, nt_samples=NOISY, nt_samples_batch_size=1, stdevs=NOISE, **given))


def saliency(model: Deployable, photo: Tensor, target: int) -> Tensor:
    """Magnitude of the gradient (Simonyan et al., 2014): where a small change of colour changes the answer."""
    found: Tensor = attr.Saliency(model).attribute(photo, target=target).amax(-1)
    return found


def gradient_shap(model: Deployable, photo: Tensor, target: int) -> Tensor:
    """Expected gradients (Lundberg & Lee, 2017) against black, the neutral colour and white."""
    blanks = torch.cat([torch.zeros_like(photo), _blank(model, photo), torch.full_like(photo, 255)])
    given = {"n_samples": STEPS, "stdevs": NOISE, "target": target}
    return _evidence(attr.GradientShap(model).attribute(photo, baselines=blanks, **given))


def deeplift(model: Deployable, photo: Tensor, target: int) -> Tensor:
    """DeepLIFT with the rescale rule (Shrikumar et al., 2017); refused where the contributions do not sum to the difference."""
    rules = deep_lift.SUPPORTED_NON_LINEAR
    for kind in PIECEWISE:
        rules.setdefault(kind, deep_lift.nonlinear)
    blank = _blank(model, photo)
    asked = Counter(name for name, module, _ in outputs(model, photo.shape[1]) if type(module) in rules)
    if twice := sorted(name for name, n in asked.items() if n > 1):
        raise ModelError(
            f"DeepLift needs an activation of its own at every place; the network asks {twice[0].removeprefix('network.')} "
            "several times; take integrated_gradients"
        )
    found = attr.DeepLift(model).attribute(photo, blank, target=target).detach()
    with torch.no_grad():
        change = float((model(photo) - model(blank))[0, target])
    if abs(float(found.sum()) - change) > MISSING * max(0.01, abs(change)):
        raise ModelError(
            f"DeepLift's parts should sum to the logit's change of {change:+.2f}, but sum to {float(found.sum()):+.2f}: the "
            "network has steps without a rule, such as gates or layer norm; take integrated_gradients"
        )
    return _evidence(found)


def occlusion(model: Deployable, photo: Tensor, target: int) -> Tensor:
    """Drop of the logit when a square is covered by the neutral colour (Zeiler & Fergus, 2014)."""
    side = max(2, photo.shape[1] // WINDOWS)
    given = {"sliding_window_shapes": (side, side, 3), "strides": (side // 2, side // 2, 3), "target": target}
    blank = _blank(model, photo)
    return _evidence(attr.Occlusion(model).attribute(photo, baselines=blank, perturbations_per_eval=16, **given))


def gradcam(model: Deployable, photo: Tensor, target: int) -> Tensor:
    """Grad-CAM (Selvaraju et al., 2017) on the last feature map, enlarged to the photo."""
    size = photo.shape[1]
    layer = model.get_submodule(last_map(model, size))
    coarse = attr.LayerGradCam(model, layer).attribute(photo, target=target, relu_attributions=True)
    return functional.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)[:, 0]


def guided_gradcam(model: Deployable, photo: Tensor, target: int) -> Tensor:
    """Grad-CAM times guided backpropagation (Springenberg et al., 2015), which is defined for ReLU alone."""
    if other := smooth_activations(model):
        raise ModelError(f"guided backpropagation is made for ReLU; the network has {', '.join(sorted(other))}")
    if not any(isinstance(module, nn.ReLU) for module in model.modules()):
        raise ModelError("guided backpropagation needs ReLU as modules; the network has none")
    guided: Tensor = attr.GuidedBackprop(model).attribute(photo, target=target)
    return guided.abs().amax(-1) * gradcam(
        model, photo, target
    )  # of a gradient, not of evidence: its sign has no meaning


METHODS: dict[str, tuple[Method, bool]] = {  # and whether its map has single pixels
    "gradcam": (gradcam, False),
    "guided_gradcam": (guided_gradcam, True),
    "integrated_gradients": (integrated_gradients, True),
    "noise_tunnel": (noise_tunnel, True),
    "gradient_shap": (gradient_shap, True),
    "deeplift": (deeplift, True),
    "saliency": (saliency, True),
    "occlusion": (occlusion, False),
}


def relevance(model: Deployable, photo: NDArray[np.uint8], target: int, method: str, seed: int) -> Map:
    """Evidence for a label over the photo: (size, size), 0 to 1; evidence against it is dropped.

    model: as readable() gives it; photo: as preprocess() gives it. ModelError where the method does not fit the network.
    """
    function, pixels = METHODS[method]
    with seeded(seed), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="captum")  # of hooks and gradients, at every call
        found = function(model, torch.tensor(photo)[None].float(), target)
    plane: Map = found[0].detach().numpy().astype(np.float32)
    if pixels:
        plane = gaussian_filter(plane, len(plane) / SMOOTHING)
    highest = float(plane.max())
    return plane / highest if highest > 0 else plane


def check_methods(names: Iterable[str]) -> list[str]:
    """The names; an unknown one is a ConfigError that names the nearest."""
    given = list(names)
    for name in given:
        if name not in METHODS:
            raise ConfigError(f"no method {name!r}; {did_you_mean(name, METHODS, 'methods: ' + ', '.join(METHODS))}")
    return given


def _integrated(model: Deployable, photo: Tensor, target: int, n_steps: int) -> Tensor:
    blank = _blank(model, photo)
    found: Tensor = attr.IntegratedGradients(model).attribute(
        photo, blank, target=target, n_steps=n_steps, internal_batch_size=16
    )
    return found


def _blank(model: Deployable, photo: Tensor) -> Tensor:
    return neutral(model).expand_as(photo).contiguous()


def _evidence(attribution: Tensor) -> Tensor:
    """(1, s, s, 3) -> (1, s, s): the positive part of the sum over colours."""
    return attribution.sum(-1).clamp(min=0)
