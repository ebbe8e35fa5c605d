"""Other formats of an exported model: TorchScript, and an entry of a Triton server's model repository."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.compression.export import parity
from pipeline.edge.model import METADATA_KEY, Model
from pipeline.files import replacing, write_text
from pipeline.models.checkpoint import finished_model
from pipeline.models.deployable import Deployable

TRITON_FILES = ("config.pbtxt", "labels.txt", "1/model.onnx")
MAX_BATCH = 32  # largest batch of a Triton server


def torchscript(folder: Path, path: Path, photos: Callable[[], NDArray[np.uint8]], tolerance: float) -> None:
    """Trace the network of a model folder, scaling included: uint8 (n, size, size, 3) in, logits out.

    The card lies inside the archive under the extra file METADATA_KEY. Refused unless it says what the network says on
    the photos.
    """
    network, card = finished_model(folder)
    model = Deployable(network, card.recipe).eval()
    given = torch.from_numpy(photos())
    with replacing(path) as temporary, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch recommends another format
        traced = torch.jit.trace(model, given[:2])  # type: ignore[no-untyped-call]
        torch.jit.save(traced, str(temporary), _extra_files={METADATA_KEY: json.dumps(card.to_dict())})
        again = torch.jit.load(str(temporary))  # type: ignore[no-untyped-call]
        parity(model(given).numpy(), again(given).numpy(), tolerance, card.name, "TorchScript")


def triton(exported: Path, folder: Path) -> None:
    """Write TRITON_FILES into a model's folder of a Triton server's repository, for its onnxruntime backend."""
    model = Model(exported)
    batch, *photo = model.session.get_inputs()[0].shape
    labels = [len(model.labels)]
    fixed = isinstance(batch, int)
    settings, names, version = (folder / file for file in TRITON_FILES)
    with replacing(version) as temporary:
        shutil.copyfile(exported, temporary)
    write_text(names, "".join(f"{name}\n" for name in model.labels))
    write_text(
        settings,
        f'name: "{folder.name}"\nbackend: "onnxruntime"\nmax_batch_size: {0 if fixed else MAX_BATCH}\n'
        + _tensor("input", "input", "TYPE_UINT8", [batch, *photo] if fixed else photo)
        + _tensor("output", "output", "TYPE_FP32", [batch, *labels] if fixed else labels, "labels.txt"),
    )


def _tensor(kind: str, name: str, type_: str, shape: list[Any], labels: str = "") -> str:
    more = f', label_filename: "{labels}"' if labels else ""
    return f'{kind} [ {{ name: "{name}", data_type: {type_}, dims: {shape}{more} }} ]\n'
