"""Export to ONNX, refused unless torch and onnxruntime agree on real photos."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.edge.model import METADATA_KEY, Model
from pipeline.errors import ModelError
from pipeline.files import replacing
from pipeline.models.checkpoint import ModelCard
from pipeline.models.deployable import Deployable

OPSET = 18


def export(
    network: nn.Module,
    card: ModelCard,
    path: Path,
    photos: NDArray[np.uint8],
    tolerance: float,
    batch: int | Literal["dynamic"] = "dynamic",
) -> dict[str, Any]:
    """Write the network with its scaling inside: input uint8 (n, size, size, 3) RGB, output logits (n, labels).

    photos: real ones, (n, size, size, 3), on which torch and onnxruntime must agree: largest |logit difference| within
    `tolerance` and the same best label on each; else nothing is written. batch: a number fixes n, with which constants
    that depend on it fold. Returns the parity figures.
    """
    model = Deployable(network, card.recipe).eval()
    with torch.no_grad():
        ours = model(torch.from_numpy(photos)).numpy()
    if not np.isfinite(ours).all():
        raise ModelError(
            f"export of {card.name} refused: torch's logits are not finite; train it again, with a lower lr"
        )
    n = 2 if batch == "dynamic" else batch  # an example of one photo would fix the batch size
    example = torch.zeros(n, card.recipe.size, card.recipe.size, 3, dtype=torch.uint8)
    try:
        with _quiet(), torch.inference_mode(False), torch.no_grad():
            program = torch.onnx.export(
                model, (example,), input_names=["input"], output_names=["output"], opset_version=OPSET, dynamo=True,
                dynamic_shapes={"photos": {0: torch.export.Dim("n")}} if batch == "dynamic" else None, verbose=False,
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        raise ModelError(f"{card.architecture} cannot be exported to ONNX ({cause}); take another model") from error
    assert program is not None
    proto = program.model_proto
    strip(proto)
    describe(proto, {**card.to_dict(), "precision": "fp32"})
    onnx.checker.check_model(proto)
    with replacing(path) as temporary:
        onnx.save_model(proto, temporary)
        return parity(ours, logits(Model(temporary), photos), tolerance, card.name)


def logits(model: Model, photos: NDArray[np.uint8], batch: int = 32) -> NDArray[np.float32]:
    """Logits of any number of photos, `batch` at a time, or as many as a graph of fixed batch size takes."""
    fixed = model.session.get_inputs()[0].shape[0]
    step = fixed if isinstance(fixed, int) else batch
    return np.concatenate([model.logits(photos[start : start + step]) for start in range(0, len(photos), step)])


def parity(
    torch_logits: NDArray[Any], other_logits: NDArray[Any], tolerance: float, name: str, other: str = "onnxruntime"
) -> dict[str, Any]:
    """Measures of agreement; disagreement is a ModelError."""
    difference = float(np.abs(torch_logits - other_logits).max())
    same = float((torch_logits.argmax(1) == other_logits.argmax(1)).mean())
    if not difference <= tolerance or same < 1:
        raise ModelError(
            f"export of {name} refused: torch and {other} differ by {difference:.2g} in a logit (allowed {tolerance:g}) "
            f"and agree on {same:.1%} of {len(other_logits)} photos"
        )
    return {"photos": len(other_logits), "max_logit_difference": difference, "top1_agreement": same}


def strip(proto: onnx.ModelProto) -> None:
    """Remove the exporter's debug information, which holds paths of the exporting machine and makes the file larger."""
    graph = proto.graph
    for item in [*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output, graph]:
        del item.metadata_props[:]
        item.doc_string = ""
    del proto.metadata_props[:]


def describe(proto: onnx.ModelProto, card: dict[str, Any]) -> None:
    """Put labels, recipe and hashes into the file."""
    onnx.helper.set_model_props(proto, {METADATA_KEY: json.dumps(card, ensure_ascii=False)})
    proto.producer_name = "ommatidia"


@contextlib.contextmanager
def _quiet() -> Any:
    """Silence the exporter, which prints to stdout and warns about its own internals."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logger = logging.getLogger("torch.onnx")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
