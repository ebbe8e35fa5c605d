"""From a configuration to trained model folders: which labels, which network, which teacher, then the loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.dominance import rank_species
from pipeline.dataset.manifest import Manifest, read_manifest
from pipeline.edge.recipe import Recipe
from pipeline.errors import DataError, ModelError
from pipeline.files import digest, sha256
from pipeline.labels import LabelSpace, window
from pipeline.models.checkpoint import ModelCard, load_model, read_card, save_model
from pipeline.models.deployable import Deployable
from pipeline.models.registry import build, scaling
from pipeline.sections import Training
from pipeline.training.data import Photos, mix
from pipeline.training.loop import Teacher, train
from pipeline.training.losses import folding
from pipeline.training.memory import keep_freed_memory


def train_role(config: Config, role: str, start_ranks: list[int] | None = None) -> list[Path]:
    """Train main, or the cache of each start rank; what is trained already is skipped. Returns the model folders."""
    keep_freed_memory()
    manifest = read_manifest(config.dataset_dir, config.paths.dst_dataset)
    if role == "main":
        return [_train_one(config, manifest, _card(config, manifest, config.main, "main"), config.main)]
    folders = []
    for start in start_ranks if start_ranks is not None else config.cache.start_ranks:
        card = _cache_card(config, manifest, start)
        folders.append(_train_one(config, manifest, card, config.cache))
    return folders


def _cache_card(config: Config, manifest: Manifest, start: int) -> ModelCard:
    ranking, n = rank_species(manifest.composition(), config.cache_threshold)
    labels = window(ranking, n, start)
    card = _card(config, manifest, config.cache, "cache", labels)
    return replace(
        card, name=config.cache_name(start), window=(start, len(labels) - 1), threshold=config.cache_threshold
    )


def _card(
    config: Config, manifest: Manifest, settings: Training, role: str, labels: LabelSpace | None = None
) -> ModelCard:
    mean, std = scaling(settings.model)
    recipe = Recipe(**settings.recipe.model_dump(), mean=mean, std=std)
    labels = labels or manifest.species()
    if isinstance(settings.pretrained, Path):
        pretrained = settings.pretrained.name  # no paths of this machine: the card goes into the exported file
    else:
        pretrained = str(settings.pretrained).lower() if settings.pretrained else "none"
    return ModelCard(
        role,
        role,
        settings.model,
        settings.arguments,
        labels,
        recipe,
        manifest.hash,
        config.seed,
        pretrained=pretrained,
    )


def _train_one(config: Config, manifest: Manifest, card: ModelCard, settings: Training) -> Path:
    folder = config.models / card.name
    card = replace(card, training={**_fingerprint(config, card, settings), "finished": False})
    if _is_trained(folder, card, config.global_.overwrite):
        (folder / "last.pt").unlink(missing_ok=True)  # killed between the last card and this
        log.info("%-9s up to date: %s", "train", folder)
        return folder
    torch.manual_seed(mix(card.seed))
    network = build(settings.model, len(card.labels), settings.arguments, settings.pretrained)
    sets = [
        _photos(manifest, split, card, settings.augment if split == "train" else "none") for split in ("train", "val")
    ]
    log.info(
        "train     %s: %s, %d labels, %d photos to learn from, %d to choose by",
        card.name, card.architecture, len(card.labels), len(sets[0]), len(sets[1]),
    )  # fmt: skip
    train(folder, network, card, settings, sets[0], sets[1], _teacher(config, card, settings))
    best, best_card = load_model(folder)
    save_model(folder, best, replace(best_card, training={**best_card.training, "finished": True}))
    (folder / "last.pt").unlink(missing_ok=True)
    return folder


def _is_trained(folder: Path, card: ModelCard, overwrite: bool) -> bool:
    if overwrite:
        for name in ("last.pt", "model.json"):
            (folder / name).unlink(missing_ok=True)
        return False
    if not (folder / "model.json").is_file():
        return False
    known = read_card(folder).training
    if known.get("fingerprint") != card.training["fingerprint"]:
        old, new = known.get("settings", {}), card.training["settings"]
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        raise ModelError(
            f"{folder} was trained with other settings ({', '.join(changed) or 'an older version'}); give the experiment "
            "another name, or train anew with --set global.overwrite=true"
        )
    return bool(known["finished"])


def _fingerprint(config: Config, card: ModelCard, settings: Training) -> dict[str, Any]:
    """All that the trained weights depend on; workers do not change them. Defaults are left out, so that a new setting
    of a later version does not disown what is trained."""
    told = settings.model_dump(mode="json", exclude={"workers", "start_ranks", "threshold"}, exclude_defaults=True)
    told |= {"model": settings.model, "labels": card.labels.hash, "manifest": card.data_hash, "seed": card.seed}
    if isinstance(settings.pretrained, Path):
        told["pretrained"] = sha256(settings.pretrained) if settings.pretrained.is_file() else str(settings.pretrained)
    if settings.distill.teacher:
        told["teacher"] = read_card(config.models / settings.distill.teacher).weights_sha256
    return {"fingerprint": digest(told), "settings": told}


def _photos(manifest: Manifest, split: str, card: ModelCard, strength: str) -> Photos:
    rows = manifest.part(split)
    if rows.empty:
        raise DataError(f"the {split} part of the manifest is empty; check train_val_split.train_size and val_size")
    paths = [manifest.root / path for path in rows["image_path"]]
    if missing := [path for path in paths if not path.is_file()]:
        raise DataError(
            f"{len(missing)} photos of the {split} part are gone, e.g. {missing[0]}; run dataset_orchestrator.py again"
        )
    return Photos(paths, card.labels.ids(rows["species"].tolist()), card.recipe, strength, card.seed)


def _teacher(config: Config, card: ModelCard, settings: Training) -> Teacher | None:
    if not settings.distill.teacher:
        return None
    network, teacher = load_model(config.models / settings.distill.teacher)
    if teacher.data_hash != card.data_hash:
        raise ModelError(
            f"the teacher {teacher.name} was trained on manifest {teacher.data_hash}, this one is {card.data_hash}; "
            "train the teacher again, or it may have seen the photos that choose"
        )
    return Teacher(Deployable(network, teacher.recipe), teacher.recipe.size, folding(teacher.labels, card.labels))
