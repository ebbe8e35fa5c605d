#!/usr/bin/env python3
"""The cascade against main alone and against the users' two-stage loop: speed, accuracy, promise, one file, run time.

    python -m benchmarks.cascade --config configs/haute_garonne_insecta.yaml --work FOLDER

needs an evaluated experiment (run.py). Every comparison is one run on one thread, the systems in turn photo by photo, so
that other work on the machine hits all alike. FOLDER takes the 12-megapixel photos, the untrained network and the bundle.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from pipeline.compression.export import export
from pipeline.config import Config, load_config
from pipeline.dataset.manifest import Manifest, experiment_manifest
from pipeline.dataset.test_sets import draw_test_sets
from pipeline.deploy.bundle import bundle
from pipeline.deploy.single_file import input_names, write_single_file
from pipeline.edge.cascade import Cascade, Stage, load_cascade
from pipeline.edge.model import Model
from pipeline.edge.recipe import Recipe, decode, preprocess
from pipeline.edge.rule import Rule
from pipeline.evaluation.choosing.choice import choose
from pipeline.evaluation.experiment import part
from pipeline.evaluation.predict import Predictions, model_file, predict_stages, stage_names
from pipeline.evaluation.routing import cascade_figures, route, truth_ids
from pipeline.files import write_json
from pipeline.labels import OTHER, LabelSpace
from pipeline.models import registry
from pipeline.models.checkpoint import ModelCard, versions

ROOT = Path(__file__).resolve().parent.parent
System = Callable[[Path], Any]
LARGE = (4000, 3000)  # 12 megapixels


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--config", type=Path, required=True)
    arguments.add_argument("--set", action="append", default=[], dest="overrides", metavar="SECTION.KEY=VALUE")
    arguments.add_argument("--work", type=Path, required=True)
    arguments.add_argument("--photos", type=int, default=200, help="test photos to time (default 200)")
    arguments.add_argument("--large", type=int, default=20, help="of them as 12-megapixel JPEGs (default 20)")
    arguments.add_argument("--larger", type=int, default=0, help="of them with a ConvNeXt-Large too (default 0)")
    arguments.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "cascade.json")
    arguments.add_argument("--many", type=int, default=10_000, help="photos for the long run (default 10,000)")
    given = arguments.parse_args()
    config = load_config(given.config, given.overrides)
    manifest = experiment_manifest(config)
    tables = predict_stages(config, manifest, config.route.precision)
    val, test = part(tables, "val"), part(tables, "test")
    rules = choose(val, config.route, config.seed).rules
    caches = [
        Stage.of(name, Model(model_file(config, name, config.route.precision)), rule)
        for name, rule in zip(stage_names(config)[:-1], rules[:-1], strict=True)
        if rule
    ]
    own = Stage.of("main", Model(model_file(config, "main", config.route.precision)), Rule())
    convnext = untrained("convnext_tiny", test[-1].labels, given.work)
    rows = manifest.part("test").sample(given.photos, random_state=config.seed)
    photos = [manifest.root / path for path in rows["image_path"]]
    large = enlarged(photos[: given.large], given.work / "large")
    result: dict[str, Any] = {
        "experiment": config.experiment,
        "precision": config.route.precision,
        "versions": versions(),
    }
    result["promise"] = promise(val, test, config)
    result["users_rule"] = figures(test, [*(Rule() for _ in test[:-1]), Rule()])
    result["speed"] = {
        f"{name}, {kind}": speed(caches, stage, some)
        for name, stage in (("own main", own), ("convnext_tiny, untrained", convnext))
        for kind, some in (("160 px", photos if stage is own else photos[: len(photos) // 4]), ("12 megapixels", large))
    }
    if given.larger:
        larger = untrained("convnext_large", test[-1].labels, given.work)
        result["speed"]["convnext_large, untrained, 160 px"] = speed(caches, larger, photos[: given.larger])
    result["number_of_caches"] = number_of_caches(config, manifest, test, rules)
    result["batches"] = {stage.name: batches(stage) for stage in (*caches, own)}
    folder = given.work / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bundle(config), folder)
    result["one_file"] = one_file(folder, given.work / "cascade.onnx", photos)
    result["runtime"] = runtime(folder, photos, given.work, given.many)
    write_json(given.out, result)
    print(json.dumps(result, indent=1))


# the systems --------------------------------------------------------------------------------------------------------


def users_loop(stages: Sequence[Stage]) -> System:
    """The users' own loop: each stage opens, decodes and prepares the photo anew at full size; "Other" alone sends it on."""

    def classify(path: Path) -> str:
        answer = ""
        for stage in stages:
            with Image.open(path) as opened:
                photo = opened.convert("RGB")
            logits = stage.model.logits(preprocess(photo, stage.recipe)[None])[0]
            answer = stage.labels[int(logits.argmax())]
            if answer != OTHER:
                break
        return answer

    return classify


def untrained(name: str, labels: LabelSpace, work: Path) -> Stage:
    """A network with random weights in main's place, for its time only."""
    path = work / f"{name}.onnx"
    if not path.is_file():
        recipe = Recipe(size=224, crop=0.875)
        network = registry.build(name, len(labels), {})
        card = ModelCard(name, "main", name, {}, labels, recipe, "", 0)
        export(network, card, path, np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8), 1e-2)
    return Stage.of(name, Model(path), Rule())


def enlarged(photos: Sequence[Path], folder: Path) -> list[Path]:
    """The photos as a camera of 12 megapixels would store them."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for photo in photos:
        target = folder / f"{photo.stem}.jpg"
        if not target.is_file():
            with Image.open(photo) as image:
                image.convert("RGB").resize(LARGE, Image.Resampling.BICUBIC).save(target, quality=92)
        made.append(target)
    return made


# speed --------------------------------------------------------------------------------------------------------------


def timed(systems: dict[str, System], photos: Sequence[Path]) -> dict[str, list[float]]:
    """ms per photo of each system, in turn; each photo starts with another system."""
    names = list(systems)
    for name in names:
        systems[name](photos[0])
    times: dict[str, list[float]] = {name: [] for name in names}
    for i, photo in enumerate(photos):
        for k in range(len(names)):
            name = names[(i + k) % len(names)]
            start = time.perf_counter()
            systems[name](photo)
            times[name].append(1000 * (time.perf_counter() - start))
    return times


def speed(caches: Sequence[Stage], main: Stage, photos: Sequence[Path]) -> dict[str, Any]:
    """Cascade, main alone, and the users' loop, from the file to the label; the bound; what our own Python costs."""
    cascade, alone, first = Cascade([*caches, main]), Cascade([main]), Cascade(caches[:1])
    answers = []
    systems: dict[str, System] = {
        "cascade": lambda path: answers.append(cascade.classify(path)),
        "main alone": alone.classify,
        "first cache alone": first.classify,
        "users' loop": users_loop([*caches, main]),
    }
    times = timed(systems, photos)
    told = answers[1:]  # without the warm-up
    mean = {name: float(np.mean(series)) for name, series in times.items()}
    sent_on = float(np.mean([answer.stage == main.name for answer in told]))
    hits = [(ms, a) for ms, a in zip(times["cascade"], told, strict=True) if a.stage != main.name]
    inside = {"decode": [a.decode_ms for _, a in hits], "prepare": [a.preprocess_ms for _, a in hits]}
    later = float(np.mean([a.infer_ms.get(main.name, 0.0) for a in told]))  # of main alone, without decoding again
    return {
        "photos": len(photos),
        "ms_mean": mean,
        "ms_median": {name: float(np.median(series)) for name, series in times.items()},
        "communication_rate": sent_on,
        "speed_up_against_main_alone": mean["main alone"] / mean["cascade"],
        "speed_up_against_users_loop": mean["users' loop"] / mean["cascade"],
        "bound": mean["main alone"] / (mean["first cache alone"] + sent_on * mean["main alone"]),
        "bound_decoding_once": mean["main alone"] / (mean["first cache alone"] + later),
        "of_a_hit": {
            "ms_median": float(np.median([ms for ms, _ in hits])) if hits else None,
            **{name: float(np.median(series)) if series else None for name, series in inside.items()},
            "python_around_share": float(np.median([(ms - a.ms) / ms for ms, a in hits])) if hits else None,
        },
    }


def batches(stage: Stage) -> dict[str, float]:
    """ms per photo of one inference of 1 photo and of 8, in turn."""
    size = stage.recipe.size
    some = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), np.uint8)
    times: dict[int, list[float]] = {1: [], 8: []}
    for _ in range(30):
        for n, series in times.items():
            start = time.perf_counter()
            stage.model.logits(some[:n])
            series.append(1000 * (time.perf_counter() - start) / n)
    return {f"ms per photo, batch {n}": float(np.median(series)) for n, series in times.items()}


def separate(cascade: Cascade, feed: dict[str, Any]) -> None:
    """The stages in order on prepared photos."""
    for stage in cascade.stages:
        logits = stage.model.logits(feed[input_names(cascade)[stage.recipe.geometry]])[0]
        if stage.rule.scores(logits, stage.labels)[0] >= stage.rule.threshold:
            break


def one_file(folder: Path, target: Path, photos: Sequence[Path]) -> dict[str, Any]:
    """The one ONNX file against the bundle's Python with its separate sessions, photos decoded and prepared beforehand."""
    import onnxruntime as ort

    cascade = load_cascade(folder)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(write_single_file(folder, target), options)
    about = json.loads(session.get_modelmeta().custom_metadata_map["ommatidia"])
    recipes = {input_names(cascade)[stage.recipe.geometry]: stage.recipe for stage in cascade.stages}
    same, times = 0, {"one file": [], "separate sessions": []}
    for i, path in enumerate(photos):
        photo = decode(path, cascade.decode_side)
        feed = {name: preprocess(photo, recipe)[None] for name, recipe in recipes.items()}
        answer = cascade.classify(path, 1)

        runs = [("one file", partial(session.run, None, feed)), ("separate sessions", partial(separate, cascade, feed))]
        for name, ask in runs if i % 2 else reversed(runs):
            start = time.perf_counter()
            ask()
            times[name].append(1000 * (time.perf_counter() - start))
        same += about["labels"][session.run(["answer"], feed)[0].item()] == answer.species
    median = {f"{name}, median ms": float(np.median(series)) for name, series in times.items()}
    return {"photos": len(photos), "same_answers": same, "bytes": target.stat().st_size, **median}


# accuracy -----------------------------------------------------------------------------------------------------------


def figures(tables: Sequence[Predictions], rules: Sequence[Rule | None]) -> dict[str, Any]:
    """On stored predictions: accuracy, the change against main alone in points, communication rate, ms, stages."""
    routed = route(tables, rules)
    right = routed.answers == truth_ids(tables[0].rows["species"].tolist(), routed.labels)
    told = cascade_figures(tables, routed)
    found = {"accuracy": float(right.mean()), "images_per_s": 1000 / told["ms_per_image"], **told}
    if routed.main >= 0:
        main = tables[-1].logits.argmax(1) == truth_ids(tables[-1].rows["species"].tolist(), tables[-1].labels)
        found["points_against_main"] = 100 * float(right.mean() - main.mean())
    return found


def promise(val: Sequence[Predictions], test: Sequence[Predictions], config: Config) -> list[dict[str, Any]]:
    """What was promised on val, and what came of it on test."""
    made = []
    for drop in (0.005, 0.01, 0.02):
        for rule in ("confidence", "margin", "calibrated", "deferral"):
            learn = 0.3 if rule in ("calibrated", "deferral") else 0.0
            settings = config.route.model_copy(update={"rule": rule, "max_drop": drop, "learn_share": learn})
            choice = choose(val, settings, config.seed)
            found = figures(test, choice.rules)
            keep = ("accuracy", "points_against_main", "communication_rate")
            rules = [one and asdict(one) for one in choice.rules[:-1]]
            made.append({"rule": rule, "max_drop": drop, "rules": rules, **{key: found[key] for key in keep}})
    return made


def number_of_caches(
    config: Config, manifest: Manifest, test: Sequence[Predictions], rules: Sequence[Rule | None]
) -> dict[str, Any]:
    """DI1, DI2, DI3 and the test split: main only, 1 to all caches and main, caches only."""
    composition = manifest.composition()
    counts = pd.Series({name: n for group in composition.values() for name, n in group.items()})
    ranking = counts.sort_values(ascending=False, kind="stable").index.tolist()
    sets = config.test_sets
    drawn = draw_test_sets(manifest.part("test"), ranking, sets.sets, sets.window, sets.size, config.seed)
    paths = {name: set(one.rows["image_path"]) for name, one in drawn.items()}
    paths["test"] = set(test[0].rows["image_path"])
    found: dict[str, Any] = {}
    for name, there in paths.items():
        some = [table.where(table.rows["image_path"].isin(there).to_numpy()) for table in test]
        if some[0].rows.empty:
            continue
        n = len(some) - 1
        rows = {f"{k} caches + main": figures([*some[:k], some[-1]], [*rules[:k], Rule()]) for k in range(n + 1)}
        rows["caches only"] = figures(some[:-1], [Rule()] * n)
        found[name] = {"photos": len(some[0].rows), **rows}
    return found


# run time -----------------------------------------------------------------------------------------------------------


def runtime(folder: Path, photos: Sequence[Path], work: Path, many: int) -> dict[str, Any]:
    """The bundle as a process: start to first answer and peak memory, models at start or lazily; many photos, 1 % broken."""
    result: dict[str, Any] = {}
    for name, more in (("all models at start", []), ("lazy", ["--lazy"])):
        seconds, told = zip(*(call(folder, [str(photos[0]), "--benchmark", *more]) for _ in range(5)), strict=True)
        memory = [float(text.splitlines()[-1].split()[-2]) for text in told]
        result[name] = {"s_to_first_answer": float(np.median(seconds)), "peak_MiB": float(np.median(memory))}
    links = work / "many"
    shutil.rmtree(links, ignore_errors=True)
    links.mkdir(parents=True)
    broken = work / "broken.jpg"
    broken.write_bytes(photos[0].read_bytes()[:1000])
    for i in range(many):
        os.symlink(broken if i % 100 == 99 else photos[i % len(photos)], links / f"{i:05}.jpg")
    out = work / "many.jsonl"
    out.unlink(missing_ok=True)
    seconds, _ = call(folder, [str(links), "--out", str(out), "--benchmark"], expected=3)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    failed = sum(row["status"] == "failed" for row in rows)
    paths = len({row["path"] for row in rows})
    result["many"] = {
        "photos": many,
        "rows": len(rows),
        "paths": paths,
        "failed": failed,
        "photos_per_s": many / seconds,
    }
    return result


def call(folder: Path, arguments: list[str], expected: int = 0) -> tuple[float, str]:
    """Seconds and output of the bundle's command, one thread."""
    start = time.perf_counter()
    command = [sys.executable, str(folder / "classify.py"), *arguments, "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != expected:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return time.perf_counter() - start, done.stdout


if __name__ == "__main__":
    main()
