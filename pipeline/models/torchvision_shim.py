"""Import torchvision although its compiled operators do not load, as happens when wheels of two sources are mixed.

Its import then stops with "operator torchvision::nms does not exist". This project uses none of these operators, so
their schemas are declared and left without an implementation. Where torchvision is whole, nothing is done.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # a library's schemas live as long as the object


def ensure() -> bool:
    """Call before the first `import torchvision` or `import timm`; returns whether schemas had to be declared."""
    if "torchvision" in sys.modules or _declared or _operators_load():
        return bool(_declared)
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _declared.append(library)
    return True


def _operators_load() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return True  # nothing to repair; the import itself reports what is missing
    folder = Path(next(iter(spec.submodule_search_locations)))
    for library in [*folder.glob("_C*.so"), *folder.glob("_C*.pyd")]:
        try:
            torch.ops.load_library(library)  # type: ignore[no-untyped-call]
        except OSError:
            continue
        return True
    return False
