#!/usr/bin/env python3
"""Photos per second of our training loop and of timm's own train.py: same network, size, batch, optimizer, one process, CPU.

    python benchmarks/training.py PHOTOS --timm train.py --models mobilenetv3_large_100 convnext_atto

PHOTOS holds <species>/<photo>; train.py is timm's script, as in its repository (the package on PyPI does not carry it). Each
loop learns for --epochs epochs with its own usual crops, mirroring and colour jitter; the first epoch warms up and is not
counted. Wall seconds are those of the last epoch; CPU seconds those of the whole process with its data workers, so that
other work on the machine counts less. Writes benchmarks/results/training.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RATE = re.compile(r"Train: (\d+) \[.*\(\s*[\d.]+s,\s*([\d.]+)/s\)\s*LR")
TIMM = "import runpy, sys; from pipeline.models import torchvision_whole as t; t.ensure(); sys.argv = sys.argv[1:]; "
TIMM += "runpy.run_path(sys.argv[0], run_name='__main__')"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder with <species>/<photo>")
    parser.add_argument("--timm", type=Path, help="timm's train.py; without it only our loop is measured")
    parser.add_argument("--models", nargs="+", default=["mobilenetv3_large_100", "convnext_atto"])
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--number", type=int, default=512, help="photos per epoch")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ours", metavar="MODEL", help=argparse.SUPPRESS)  # this script calls itself with it
    given = parser.parse_args()
    if given.ours:
        print(json.dumps(ours(given, given.ours)))
        return
    rows = []
    for model in given.models:
        rows.append({"loop": "ommatidia", "model": model, **measured(given, own_command(given, model))})
        if given.timm:
            with tempfile.TemporaryDirectory() as folder:
                lay_out(given, Path(folder))
                rows.append(
                    {"loop": "timm train.py", "model": model, **measured(given, timm_command(given, model, folder))}
                )
        print(*rows[-2:], sep="\n")
    settings = {key: value for key, value in vars(given).items() if key not in ("photos", "timm", "ours", "models")}
    result = {"settings": settings, "load_average": os.getloadavg(), "cores": os.cpu_count(), "rows": rows}
    (ROOT / "benchmarks" / "results" / "training.json").write_text(json.dumps(result, indent=1) + "\n")


def some_photos(given: argparse.Namespace) -> list[Path]:
    """The same photos for both, evenly from the sorted listing."""
    found = sorted(path for path in given.photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return found[:: max(1, len(found) // given.number)][: given.number]


def ours(given: argparse.Namespace, model: str) -> dict[str, float]:
    """One training by our loop; photos per second of its last epoch (which ends by measuring two photos)."""
    import numpy as np

    from pipeline.edge.recipe import Recipe
    from pipeline.labels import LabelSpace
    from pipeline.models.checkpoint import ModelCard
    from pipeline.models.registry import build, scaling
    from pipeline.sections_training import Training
    from pipeline.training.data import Photos
    from pipeline.training.loop import train
    from pipeline.training.memory import keep_freed_memory

    keep_freed_memory()
    photos = some_photos(given)
    names = sorted({path.parent.name for path in photos})
    labels = np.array([names.index(path.parent.name) for path in photos])
    mean, std = scaling(model)
    recipe = Recipe(size=given.size, mean=mean, std=std)
    card = ModelCard("main", "main", model, {}, LabelSpace(tuple(names)), recipe, "-", 0, training={"fingerprint": "-"})
    settings = Training(
        model=model,
        epochs=given.epochs,
        batch_size=given.batch,
        workers=given.workers,
        warmup_epochs=0,
        augment="medium",
    )
    sets = Photos(photos, labels, recipe, "medium", 0), Photos(photos[:2], labels[:2], recipe, "none", 0)
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        train(
            Path(folder),
            build(model, len(names)),
            card,
            settings,
            *sets,
            on_epoch=lambda r: seconds.append(r["seconds"]),
        )
    return {"photos_per_second": len(photos) / seconds[-1]}


def own_command(given: argparse.Namespace, model: str) -> list[str]:
    options = [
        f"--{name}={getattr(given, name)}" for name in ("size", "batch", "number", "epochs", "workers", "threads")
    ]
    return [sys.executable, __file__, str(given.photos), *options, f"--ours={model}"]


def lay_out(given: argparse.Namespace, folder: Path) -> None:
    """The folders that timm wants: the same photos to train on, two to validate on."""
    photos = some_photos(given)
    for part, members in (("train", photos), ("validation", photos[:2])):
        for path in members:
            target = folder / part / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path.resolve())


def timm_command(given: argparse.Namespace, model: str, folder: str) -> list[str]:
    species = len({path.parent for path in some_photos(given)})
    options = f"--data-dir {folder} --model {model} --num-classes {species} --img-size {given.size} -b {given.batch}"
    options += f" --epochs {given.epochs} -j {given.workers} --device cpu --opt adamw --lr 1e-3 --channels-last"
    options += f" --smoothing 0.1 --warmup-epochs 0 --cooldown-epochs 0 --log-interval 1 --output {folder}/out"
    return [sys.executable, "-c", TIMM, str(given.timm), *options.split()]


def measured(given: argparse.Namespace, command: list[str]) -> dict[str, float]:
    """Photos per second of the last epoch, and CPU milliseconds per photo of the whole run."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(given.threads), "PYTHONPATH": str(ROOT)}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found: dict[str, Any] = {"run_seconds": time.monotonic() - start}
    found["cpu_ms_per_photo"] = 1000 * cpu / (given.epochs * given.number)
    if "--ours" in command[-1]:
        return {**found, **json.loads(done.stdout.splitlines()[-1])}
    rates = [float(rate) for epoch, rate in RATE.findall(done.stderr + done.stdout) if int(epoch) == given.epochs - 1]
    return {**found, "photos_per_second": rates[-1]}


if __name__ == "__main__":
    main()
