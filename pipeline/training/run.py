"""Train the models of a configuration: label space, network and teacher of each, then the loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.manifest import Manifest, learnt_manifest
from pipeline.dataset.windows import cache_labels, start_ranks
from pipeline.edge.recipe import Recipe
from pipeline.errors import ConfigError, DataError, ModelError
from pipeline.files import digest, safe_name
from pipeline.labels import LabelSpace
from pipeline.models.checkpoint import CARD, RETRAINED, ModelCard, finished_model, load_model, read_card, save_card
from pipeline.models.deployable import Deployable
from pipeline.models.registry import build, resolve, scaling
from pipeline.models.reuse import reuse, weights_hash
from pipeline.sections.training import Freeze, Training
from pipeline.training import distributed
from pipeline.training.data import Photos, mix
from pipeline.training.epoch import Teacher
from pipeline.training.loop import train
from pipeline.training.losses import folding
from pipeline.training.memory import keep_freed_memory
from pipeline.training.packed import Packed, pack, remove_others
from pipeline.training.tracking import Tracker, tracking


def train_role(config: Config, role: str, starts: list[int] | None = None) -> list[Path]:
    """Train main, or the cache of each start rank; finished trainings are skipped. Returns the model folders."""
    keep_freed_memory()
    with distributed.processes():
        manifest = learnt_manifest(config)
        if role == "main":
            return [_train_one(config, manifest, _card(config, manifest, config.main, "main"), config.main)]
        starts = start_ranks(config, manifest) if starts is None else starts
        cards = [_cache_card(config, manifest, start) for start in starts]
        return [_train_one(config, manifest, card, config.cache) for card in cards]


def retrain(config: Config, name: str) -> Path:
    """Retrain a pruned model with its own section's settings and those of prune.retrain."""
    keep_freed_memory()
    with distributed.processes():
        manifest, folder = learnt_manifest(config), config.models / name
        pruned, changes = read_card(folder), config.prune.retrain
        if not pruned.pruning:
            raise ModelError(f"{name} is not pruned; run prune.py first, or train it anew: train.py {pruned.role}")
        manifest.check_trained_on(pruned.data_hash, str(folder), "train and prune again")
        section: Training = config.main if pruned.role == "main" else config.cache
        teacher = pruned.pruning[0]["unpruned"] if changes.teacher == "unpruned" else changes.teacher
        settings = section.model_copy(
            update={
                **changes.model_dump(exclude={"teacher"}),
                "model": pruned.architecture,
                "arguments": pruned.arguments,
                "pretrained": folder,
                "freeze": Freeze(),
                "distill": section.distill.model_copy(update={"teacher": teacher}) if teacher else section.distill,
            }
        )
        card = replace(pruned, name=f"{name}{RETRAINED}", pretrained=name, metrics={})
        return _train_one(config, manifest, card, settings)


def left_out(folders: Sequence[Path]) -> int:
    """Number of photos that were unreadable during these trainings."""
    return sum(read_card(folder).training.get("unreadable", 0) for folder in folders)


def _cache_card(config: Config, manifest: Manifest, start: int) -> ModelCard:
    threshold = None if config.cache.species else config.cache_threshold
    labels = cache_labels(config, manifest, start)
    card = _card(config, manifest, config.cache, "cache", labels)
    return replace(card, name=config.cache_name(start), window=(start, len(labels) - 1), threshold=threshold)


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
        resolve(settings.model, settings.recipe.size, settings.arguments),
        labels,
        recipe,
        manifest.hash,
        config.seed if settings.seed is None else settings.seed,
        pretrained=pretrained,
    )


def _train_one(config: Config, manifest: Manifest, card: ModelCard, settings: Training) -> Path:
    folder = config.models / card.name
    card = replace(card, training={**_fingerprint(config, card, settings), "finished": False})
    overwrite = config.global_.overwrite and not distributed.restarted()
    if distributed.from_writer(lambda: _is_trained(folder, card, overwrite)):
        log.info("%-9s up to date: %s", "train", folder)
        return folder
    torch.manual_seed(mix(card.seed))
    network = _network(card, settings)
    train_set, val_set = (_photos(config, manifest, split, card, settings) for split in ("train", "val"))
    log.info(
        "train     %s: %s, %d labels, %d photos to learn from, %d to choose by",
        card.name, card.architecture, len(card.labels), len(train_set), len(val_set),
    )  # fmt: skip
    teachers = _teachers(config, manifest, card, settings)
    trackers = settings.tracking if distributed.is_writer() else []
    with tracking(trackers, config.paths.output_dir / "tracking", config.experiment, card) as track:
        last = train(folder, network, card, settings, train_set, val_set, teachers, track.log)
        distributed.from_writer(lambda: _finish(folder, last, track))
    return folder


def _network(card: ModelCard, settings: Training) -> nn.Module:
    folder = settings.pretrained if isinstance(settings.pretrained, Path) and settings.pretrained.is_dir() else None
    if folder and card.pruning:
        return load_model(folder)[0]
    network = build(card.architecture, len(card.labels), card.arguments, False if folder else settings.pretrained)
    if folder:
        known = reuse(network, card.architecture, card.labels, folder)
        log.info("train     %s: %d of %d labels are known to %s", card.name, known, len(card.labels), folder.name)
    return network


def _finish(folder: Path, last: ModelCard, track: Tracker) -> None:
    card = read_card(folder)
    unreadable = {key: last.training[key] for key in ("unreadable",) if key in last.training}
    card = replace(card, training={**card.training, **unreadable, "finished": True})
    track.keep(folder, card)  # before the card says that nothing is left to do
    save_card(folder, card)
    (folder / "last.pt").unlink(missing_ok=True)


def _is_trained(folder: Path, card: ModelCard, overwrite: bool) -> bool:
    if overwrite and not _is_under_way(folder, card):
        for name in ("last.pt", CARD):
            (folder / name).unlink(missing_ok=True)
        return False
    if not (folder / CARD).is_file():
        return False
    known = read_card(folder).training
    if known.get("fingerprint") != card.training["fingerprint"]:
        old, new = known.get("settings", {}), card.training["settings"]
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        raise ModelError(
            f"{folder} was trained with other settings ({', '.join(changed) or 'an older version'}); give the experiment "
            "another name, or train anew with --set global.overwrite=true"
        )
    if known["finished"]:
        (folder / "last.pt").unlink(missing_ok=True)  # killed between the last card and this
    return bool(known["finished"])


def _is_under_way(folder: Path, card: ModelCard) -> bool:
    """Whether a killed training with the same settings left a checkpoint."""
    try:
        known = read_card(folder).training
    except ModelError:
        return False
    return known.get("fingerprint") == card.training["fingerprint"] and not known["finished"]


def _fingerprint(config: Config, card: ModelCard, settings: Training) -> dict[str, Any]:
    """All that the trained weights depend on; workers do not change them. Defaults are left out, so that a new setting
    of a later version does not disown what is trained."""
    told = settings.model_dump(
        mode="json",
        exclude={"workers", "start_ranks", "windows", "threshold", "species", "tracking"},
        exclude_defaults=True,
    )
    told |= {"model": settings.model, "labels": card.labels.hash, "manifest": card.data_hash, "seed": card.seed}
    if isinstance(settings.pretrained, Path):
        told["pretrained"] = weights_hash(settings.pretrained)
    if teachers := settings.distill.teachers:
        hashes = [read_card(_teacher_folder(config, card, name)).weights_sha256 for name in teachers]
        told["teacher"] = hashes[0] if len(hashes) == 1 else hashes
    return {"fingerprint": digest(told), "settings": told}


def _photos(config: Config, manifest: Manifest, split: str, card: ModelCard, settings: Training) -> Photos:
    rows = manifest.part(split)
    if rows.empty:
        raise DataError(f"the {split} part of the manifest is empty; check train_val_split.train_size and val_size")
    paths = [manifest.root / path for path in rows["image_path"]]
    if missing := [path for path in paths if not path.is_file()]:
        raise DataError(
            f"{len(missing)} photos of the {split} part are gone, e.g. {missing[0]}; run dataset_orchestrator.py again"
        )
    labels = card.labels.ids(rows["species"].tolist())
    if split == "val":  # never reduced: models are chosen on the device's view
        packed = _packed(config, manifest, split, paths, card.recipe.decode_side, 0) if settings.packed else None
        return Photos(paths, labels, card.recipe, "none", card.seed, packed=packed)
    side = settings.packed
    packed = _packed(config, manifest, split, paths, card.recipe.decode_side, side) if side else None
    batched = settings.augment_on == "device" or (settings.augment_on == "auto" and torch.cuda.is_available())
    return Photos(paths, labels, card.recipe, settings.augment, card.seed, settings.erasing, packed, batched)


def _packed(config: Config, manifest: Manifest, split: str, paths: list[Path], decode_side: int, side: int) -> Packed:
    known = {"manifest": manifest.hash, "split": split}
    place = config.dataset_dir / "packed" / manifest.hash  # the members of a sweep share it
    name = f"{split}_{digest([known, decode_side, side])}.arrow"

    def write() -> Packed:
        remove_others(place)
        return pack(place / name, paths, known, decode_side, side)

    return distributed.from_writer(write)


def _teacher_folder(config: Config, card: ModelCard, name: str) -> Path:
    """Model folder of NAME in this experiment, or of EXPERIMENT/NAME."""
    *experiment, model = (safe_name(part) for part in name.split("/"))
    if len(experiment) > 1 or (not experiment and model == card.name):
        raise ConfigError(
            f"distill.teacher {name!r}: {card.name} learns from another model, NAME of this experiment or EXPERIMENT/NAME"
        )
    return config.paths.models_dir / (experiment[0] if experiment else config.experiment) / model


def _teachers(config: Config, manifest: Manifest, card: ModelCard, settings: Training) -> list[Teacher]:
    teachers = []
    for name in settings.distill.teachers:
        network, teacher = finished_model(_teacher_folder(config, card, name))
        fix = "train the teacher again, or it may have seen the photos that choose"
        manifest.check_trained_on(teacher.data_hash, f"the teacher {teacher.name}", fix)
        folded = folding(teacher.labels, card.labels)
        teachers.append(Teacher(Deployable(network, teacher.recipe), teacher.recipe.size, folded))
    return teachers
