#!/usr/bin/env python3
"""Photos per second of our training loop and of timm's own train.py: same network, size, batch, optimizer, one process, CPU.

    python benchmarks/training.py PHOTOS --timm train.py --models mobilenetv3_large_100 convnext_atto

PHOTOS holds <species>/<photo>; train.py is timm's script, as in its repository (the package on PyPI does not carry it). Each
loop learns for --epochs epochs with its own usual crops, mirroring and colour jitter, once more for one epoch, and the
difference of the two is what counts: CPU time per photo of the process with its data workers, on which other work on the
machine tells less than on the clock. Photos per second are those of the last epoch by the clock. Writes
benchmarks/results/training.json.
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
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RATE = re.compile(r"Train: (\d+) \[.*\(\s*[\d.]+s,\s*([\d.]+)/s\)\s*LR")
TIMM = "import runpy, sys; from pipeline.models import torchvision_shim as t; t.ensure(); sys.argv = sys.argv[1:]; "
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
        own = measured(given, partial(own_command, given, model))
        rows.append({"loop": "ommatidia", "model": model, **own})
        if given.timm:
            with tempfile.TemporaryDirectory() as folder:
                lay_out(given, Path(folder))
                timm = measured(given, partial(timm_command, given, model, folder))
            rows.append({"loop": "timm train.py", "model": model, **timm})
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
    from pipeline.sections.training import Training
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


def own_command(given: argparse.Namespace, model: str, epochs: int) -> list[str]:
    options = [f"--{name}={getattr(given, name)}" for name in ("size", "batch", "number", "workers", "threads")]
    return [sys.executable, __file__, str(given.photos), *options, f"--epochs={epochs}", f"--ours={model}"]


def lay_out(given: argparse.Namespace, folder: Path) -> None:
    """The folders that timm wants: the same photos to train on, two to validate on."""
    photos = some_photos(given)
    for part, members in (("train", photos), ("validation", photos[:2])):
        for path in members:
            target = folder / part / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path.resolve())


def timm_command(given: argparse.Namespace, model: str, folder: str, epochs: int) -> list[str]:
    species = len({path.parent for path in some_photos(given)})
    options = f"--data-dir {folder} --model {model} --num-classes {species} --img-size {given.size} -b {given.batch}"
    options += f" --epochs {epochs} -j {given.workers} --device cpu --opt adamw --lr 1e-3 --channels-last"
    options += f" --smoothing 0.1 --warmup-epochs 0 --cooldown-epochs 0 --log-interval 1 --output {folder}/out"
    return [sys.executable, "-c", TIMM, str(given.timm), *options.split()]


def measured(given: argparse.Namespace, command: Callable[[int], list[str]]) -> dict[str, float]:
    """CPU milliseconds per photo, without starting up; photos per second of the last epoch by the clock."""
    one, _ = run(given, command(1))
    whole, said = run(given, command(given.epochs))
    found = {"cpu_ms_per_photo": 1000 * (whole - one) / ((given.epochs - 1) * given.number)}
    if "photos_per_second" in said:
        return {**found, **json.loads(said.splitlines()[-1])}
    rates = [float(rate) for epoch, rate in RATE.findall(said) if int(epoch) == given.epochs - 1]
    return {**found, "photos_per_second": rates[-1]}


def run(given: argparse.Namespace, command: list[str]) -> tuple[float, str]:
    """CPU seconds of a command and its children, and what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(given.threads), "PYTHONPATH": str(ROOT)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stderr + done.stdout


if __name__ == "__main__":
    main()
