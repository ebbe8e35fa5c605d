"""One exported network: its onnxruntime session, its labels and its recipe, all read from the one ONNX file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BundleError
from .labels import label_hash
from .recipe import Recipe

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when onnxruntime is imported; it sends data otherwise
METADATA_KEY = "ommatidia"


class Model:
    """Logits of uint8 photos. threads: of one inference, set explicitly because the default takes every core."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        if not path.is_file():
            raise BundleError(f"no model file {path}")
        self.session = session(path, threads)
        self.card = _card(self.session.get_modelmeta().custom_metadata_map, path)
        self.path, self.labels, self.recipe = path, tuple(self.card["labels"]), Recipe.from_dict(self.card["recipe"])
        answers = self.session.get_outputs()[0].shape[-1:]
        if answers != [len(self.labels)]:
            raise BundleError(f"{path.name} names {len(self.labels)} labels, but its network answers {answers}")

    def logits(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, size, size, 3) uint8 RGB -> (n, labels)."""
        result: NDArray[np.float32] = self.session.run(None, {"input": photos})[0]
        if not np.isfinite(result).all():
            raise BundleError(f"{self.path.name} answers numbers that are not finite; it must be trained anew")
        return result


def session(model: Path | bytes, threads: int = 1) -> Any:
    """The onnxruntime session of an ONNX file, or of its bytes, as the device runs it."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    options.add_session_config_entry("session.x64quantprecision", "1" if wants_exact_int8() else "0")
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own kinds, all derived from Exception directly
        raise BundleError(f"{getattr(model, 'name', 'the graph')} cannot be loaded: {str(error)[:200]}") from error


def wants_exact_int8() -> bool:
    """Whether to ask for exact sums of u8 x s8 products, which overflow on x86 without VNNI.

    With VNNI the exact way would only cost time (1.5 to 3 times); processors other than x86 ignore the option.
    """
    return not (told := Path("/proc/cpuinfo")).is_file() or "vnni" not in told.read_text()


def _card(metadata: dict[str, str], path: Path) -> dict[str, Any]:
    try:
        card: dict[str, Any] = json.loads(metadata[METADATA_KEY])
        hashes = label_hash(card["labels"]), Recipe.from_dict(card["recipe"]).hash
        if hashes != (card["label_hash"], card["recipe_hash"]):
            raise BundleError(f"{path.name}: labels or recipe do not fit their hash; the file's metadata were edited")
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path.name} does not carry labels and recipe; not exported by this project") from error
    return card
