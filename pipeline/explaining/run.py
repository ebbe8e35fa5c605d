"""Explain photos: one picture per photo, kept until the photo, the models or the options change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.config import Config
from pipeline.console import log, progress
from pipeline.dataset.manifest import learnt_manifest
from pipeline.edge.errors import UnreadableImage
from pipeline.explaining.figure import draw
from pipeline.explaining.kept import once
from pipeline.explaining.methods import METHODS, check_methods
from pipeline.explaining.photos import photos_to_explain
from pipeline.explaining.subject import Subject, ask, check_target, load_subjects
from pipeline.files import sha256

DEFAULT = ("gradcam", "integrated_gradients", "saliency", "occlusion")  # for every network with a feature map


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
    manifest = learnt_manifest(config)
    photos = photos_to_explain(config, manifest, images)
    truth = {
        (manifest.root / path).resolve(): str(species)
        for path, species in zip(manifest.rows["image_path"], manifest.rows["species"], strict=True)
    }
    folder = config.output / "explanations"
    failed = 0
    for name, path in progress(photos.items(), len(photos), "explain"):
        try:
            failed += _explain_one(
                config, subjects, path, folder / f"{name}.png", chosen, target, truth.get(path.resolve())
            )
        except UnreadableImage as error:
            log.warning("explain   %s: %s", path, error)
            failed += 1
    log.info("explain   %d photos: %s", len(photos), folder)
    return failed


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
    inputs = {"photo": sha256(path), "methods": methods, "target": target, "truth": truth}

    def work() -> list[str]:
        answers = [ask(subject, path, methods, target, truth, config.seed) for subject in subjects]
        draw(picture, f"true species: {truth}" if truth else path.name, answers)
        told = ", ".join(f"{answer.model}: {answer.label} {answer.score:.0%}" for answer in answers)
        log.info("explain   %s (%s)", picture.name, told)
        return [
            f"{answer.model}: {text}" for answer in answers for text in answer.maps.values() if isinstance(text, str)
        ]

    return once(config, picture, subjects, inputs, work)
