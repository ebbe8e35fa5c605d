"""Self-test: the device, the package versions, and the bundle's answers to a reference picture."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .cascade import Answer, load_cascade
from .errors import BundleError

CPU_FEATURES = ("asimd", "fphp", "asimdhp", "asimddp", "i8mm", "bf16", "avx2", "avx512f", "avx_vnni", "avx512_vnni")
UNTOLD = ("(the bundle does not say; pack it again)", 0.0)
TOLERANCE = 0.05  # of a probability; processors round int8 differently


def doctor(folder: Path, threads: int) -> int:
    """Print it; 0 when the self-test photo gets its expected answers, else 1."""
    import onnxruntime
    import PIL

    print(f"python {platform.python_version()}, {platform.platform()}")
    print(f"onnxruntime {onnxruntime.__version__}, numpy {np.__version__}, pillow {PIL.__version__}")
    words = _words("/proc/cpuinfo")
    print(f"cpu features: {', '.join(name for name in CPU_FEATURES if name in words) or 'none known'}")
    cascade, wrong = load_cascade(folder, threads), 0
    expected = json.loads((folder / "cascade.json").read_text(encoding="utf-8")).get("self_test", {})
    for stage in cascade.stages:
        answer = type(cascade)([stage]).classify(folder / "self_test.png", 1)
        if answer.failures:
            raise BundleError(f"self_test.png {answer.failures[0]}; copy the bundle again")
        [(label, score)], (known, near) = answer.topk, expected.get(stage.name, UNTOLD)
        good = label == known and abs(score - near) <= TOLERANCE
        wrong += not good
        told = "as it should be" if good else f"WRONG: should be {known} {near:.3f}"
        size = f"{len(stage.labels)} labels, {stage.recipe.size} px"
        print(f"{stage.name}: {size}; self-test {label} {score:.3f}, {told}")
    print(f"{wrong} of {len(cascade.stages)} stages answer wrongly; copy the bundle again" if wrong else "all is well")
    return int(wrong > 0)


def times(answers: Sequence[Answer]) -> str:
    """p50 and p95 of each step in ms, and the largest memory that this process had."""
    steps = {"decode": [one.decode_ms for one in answers], "prepare": [one.preprocess_ms for one in answers]}
    for name in dict.fromkeys(name for answer in answers for name in answer.infer_ms):
        steps[name] = [answer.infer_ms[name] for answer in answers if name in answer.infer_ms]
    steps["a photo, in all"] = [answer.ms for answer in answers]
    lines = [
        f"{name:<20} p50 {np.percentile(ms, 50):8.2f} ms   p95 {np.percentile(ms, 95):8.2f} ms   {len(ms)} photos"
        for name, ms in steps.items()
    ]
    words = _words("/proc/self/status")  # getrusage's figure may be that of the process that started this one
    peak = f"{int(words[words.index('VmHWM:') + 1]) / 1024:.0f} MiB" if "VmHWM:" in words else "not known here"
    return "\n".join([*lines, f"peak memory          {peak}"])


def _words(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").split() if Path(path).is_file() else []  # none where it is not Linux
