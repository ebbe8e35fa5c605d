"""Explain photos: one picture per photo, kept until the photo, the models or what is asked for change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline import __version__
from pipeline.config import Config
from pipeline.console import log, progress
from pipeline.dataset.manifest import Manifest, experiment_manifest
from pipeline.edge.errors import UnreadableImage
from pipeline.edge.sources import find
from pipeline.errors import DataError
from pipeline.explaining.figure import draw
from pipeline.explaining.methods import METHODS, check_methods
from pipeline.explaining.subject import Subject, ask, check_target, load_subjects, telling_photos
from pipeline.files import Stamp, run_once, safe_name, sha256

DEFAULT = ("gradcam", "integrated_gradients", "saliency", "occlusion")  # each fits every network that has a feature map


def explain(
    config: Config, images: Sequence[str], models: Sequence[str], methods: Sequence[str], target: str | None = None
) -> int:
    """A picture per photo (files, folders; test photos if there is none) in output/<experiment>/explanations/.

    models: names of model folders, the cascade's if empty; methods: of METHODS, "all", or DEFAULT if empty. target: a
    species; without it each map is for what the model answers. Returns how many photos or maps could not be had.
    """
    chosen = check_methods(METHODS if list(methods) == ["all"] else methods or DEFAULT)
    subjects = load_subjects(config, models)
    if target is not None:
        check_target(subjects, target)
    manifest = experiment_manifest(config)
    photos = list(find(images)) if images else [manifest.root / path for path in telling_photos(config, manifest)]
    if not photos:
        raise DataError(f"no photos to explain in {', '.join(images) or 'the test part'}")
    truth = {
        (manifest.root / path).resolve(): str(species)
        for path, species in zip(manifest.rows["image_path"], manifest.rows["species"], strict=True)
    }
    folder = config.output / "explanations"
    failed = 0
    for path, name in progress(zip(photos, names_of(photos, manifest), strict=True), len(photos), "explain"):
        try:
            failed += _explain_one(
                config, subjects, path, folder / f"{name}.png", chosen, target, truth.get(path.resolve())
            )
        except UnreadableImage as error:
            log.warning("explain   %s: %s", path, error)
            failed += 1
    log.info("explain   %d photos: %s", len(photos), folder)
    return failed


def names_of(photos: Sequence[Path], manifest: Manifest) -> list[str]:
    """A file name for each photo, without ending: from its path, below the data set where it lies there; none twice."""
    found: list[str] = []
    before: Counter[str] = Counter()
    for path in photos:
        inside = path.is_relative_to(manifest.root)
        short = path.relative_to(manifest.root) if inside else Path(*path.parts[-2:])
        name = safe_name("_".join(short.with_suffix("").parts))
        before[name] += 1
        found.append(f"{name}_{before[name]}" if before[name] > 1 else name)
    return found


def _explain_one(
    config: Config,
    subjects: Sequence[Subject],
    path: Path,
    picture: Path,
    methods: Sequence[str],
    target: str | None,
    truth: str | None,
) -> int:
    for subject in subjects:
        subject.see(path)  # an unreadable photo ends here
    inputs = {
        "photo": sha256(path), "models": [[s.card.name, s.card.weights_sha256] for s in subjects], "methods": methods,
        "target": target, "truth": truth, "seed": config.seed, "version": __version__,
    }  # fmt: skip
    refused: list[str] = []

    def work() -> None:
        answers = [ask(subject, path, methods, target, truth, config.seed) for subject in subjects]
        for answer in answers:
            refused.extend(f"{answer.model}: {text}" for text in answer.maps.values() if isinstance(text, str))
        draw(picture, f"true species: {truth}" if truth else path.name, answers)
        told = ", ".join(f"{answer.model}: {answer.label} {answer.score:.0%}" for answer in answers)
        log.info("explain   %s (%s)", picture.name, told)

    run_once(
        f"explain   {picture.name}",
        Stamp(picture.parent / ".stamps" / f"{picture.stem}.json", inputs, [picture]),
        config.global_.overwrite,
        work,
    )
    for text in sorted(set(refused)):
        log.warning("explain   %s", text)
    return len(refused)
