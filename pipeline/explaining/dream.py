"""Pictures that maximise a channel or a label: feature visualisation (Olah, Mordvintsev & Schubert, Distill 2017).

The libraries for it (Lucid, Lucent) were last released in 2021 and need packages of that time, so the optimisation is here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.explaining.network import seeded, watched
from pipeline.models.deployable import Deployable

# activations of a layer (n, c, h, w) and logits (n, labels) -> (n,), to be maximised
Objective = Callable[[Tensor, Tensor], Tensor]
RATE = 0.05
# largest jitter of the picture at every step, so that what it shows does not depend on single pixels
SHIFT, TURN, ZOOM = 0.06, math.radians(8), 0.08
COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.0, -0.05), (0.27, -0.09, 0.03))  # colour correlation of ImageNet (Lucid)


def dream(
    model: Deployable, layer: str, objective: Objective, n: int, size: int, seed: int, steps: int
) -> NDArray[np.uint8]:
    """n pictures (n, size, size, 3), each maximising its entry of the objective.

    They are optimised as Fourier coefficients of equal weight and in colours that are independent in photos, so that no
    frequency and no colour has an easier way; and moved a little at every step.
    """
    with seeded(seed), watched(model, layer) as seen:
        spectrum = (0.01 * torch.randn(n, 3, size, size // 2 + 1, 2)).requires_grad_()
        optimizer = torch.optim.Adam([spectrum], RATE)
        for _ in range(steps):
            seen.clear()
            logits = model(255 * _moved(_painted(spectrum, size)).permute(0, 2, 3, 1))
            optimizer.zero_grad()
            (-objective(seen[0], logits).sum()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    found: NDArray[np.uint8] = (255 * _painted(spectrum.detach(), size)).round().byte().permute(0, 2, 3, 1).numpy()
    return found


def channels(numbers: list[int]) -> Objective:
    """The mean of one channel per picture."""
    return lambda maps, _: maps[range(len(numbers)), numbers].mean((1, 2))


def labels(ids: list[int]) -> Objective:
    """The logit of one label per picture."""
    return lambda _, logits: logits[range(len(ids)), ids]


def directions(wanted: Tensor) -> Objective:
    """Activations along one direction (n, c) per picture."""
    unit = functional.normalize(wanted, dim=1)
    return lambda maps, _: (maps.mean((2, 3)) * unit).sum(1)


def activations(model: Deployable, layer: str, photo: NDArray[np.uint8]) -> Tensor:
    """(c, h, w) of one layer on one photo (size, size, 3)."""
    with watched(model, layer) as seen, torch.no_grad():
        model(torch.tensor(photo)[None])
    return seen[0][0]


def _painted(spectrum: Tensor, size: int) -> Tensor:
    """Fourier coefficients (n, 3, size, size // 2 + 1, 2) -> colours (n, 3, size, size) in 0..1."""
    frequency = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None])
    weighed = torch.view_as_complex(spectrum) / frequency.clamp(min=1 / size)
    planes = torch.fft.irfft2(weighed, s=(size, size), norm="ortho") / 4
    mixing = torch.tensor(COLOURS)
    return torch.sigmoid(torch.einsum("oc,nchw->nohw", mixing / mixing.norm(dim=0).max(), planes))


def _moved(pictures: Tensor) -> Tensor:
    """The pictures, all shifted, turned and zoomed by the same small random amounts."""
    draws = 2 * torch.rand(4) - 1
    angle, zoom = TURN * draws[0], 1 + ZOOM * draws[1]
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    x, y = 2 * SHIFT * draws[2:]
    turn = torch.stack([torch.stack([cosine, -sine, x]), torch.stack([sine, cosine, y])])
    grid = functional.affine_grid(turn.expand(len(pictures), 2, 3), list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
