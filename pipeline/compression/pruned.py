"""Prune trained model folders into new folders beside them, in one step, or in several with retraining in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.cluster import LOCAL, Engine
from pipeline.compression.cost import cost
from pipeline.compression.importance import importance
from pipeline.compression.pruning import candidates, prune, prune_to
from pipeline.compression.pruning_table import milliseconds, table
from pipeline.compression.quantization import calibration_sample
from pipeline.compression.run import load_photos, trained_models
from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.manifest import Manifest, learnt_manifest
from pipeline.dataset.verify import readable
from pipeline.errors import ConfigError, ModelError, SomeFailed
from pipeline.files import digest
from pipeline.models.checkpoint import CARD, ModelCard, finished_model, load_model, read_card, save_model
from pipeline.models.deployable import Deployable
from pipeline.models.registry import head
from pipeline.sections.compression import Prune

Retrain = Callable[[Config, str], Path]  # a model's name -> the folder of the retrained one; handed in from above
UNITS = {"macs": "MACs", "params": "parameters", "ms": "ms"}


@dataclass(frozen=True)
class Aim:
    """A ratio of channels to remove, a share of macs or params to keep, or ms per photo."""

    what: str
    value: float

    @property
    def suffix(self) -> str:
        percent = f"{100 * self.value:g}".zfill(2)
        return {"ratio": f"p{percent}", "ms": f"ms{self.value:g}"}.get(self.what, f"{self.what}{percent}")


def prune_models(config: Config, names: list[str], retrain: Retrain, last: bool, engine: Engine = LOCAL) -> list[Path]:
    """Prune the named models, or all that are not pruned yet, once for each ratio or to the target of the configuration.

    retrain: retrains a pruned model; used between prune.steps, and after the last one if `last`. Returns the folders of
    the pruned models (of the retrained ones if `last`); what is up to date is skipped. Writes pruning.csv and .json. One
    that fails stops no other; it is a row with its error, and SomeFailed is raised at the end (if all fail, the first's).
    """
    if config.prune.ms and engine != LOCAL:
        raise ConfigError("prune.ms times networks, and tasks beside one another slow each other; leave --engine out")
    manifest = learnt_manifest(config)
    names = names or [folder.name for folder in trained_models(config) if not read_card(folder).pruning]
    members = [(name, aim) for name in names for aim in aims(config)]

    def work(member: tuple[str, Aim]) -> Path:
        folder = _in_steps(config, manifest, *member, retrain)
        return retrain(config, folder.name) if last else folder

    found = list(engine.each(work, members))
    errors = {i: error for i, error in enumerate(found) if isinstance(error, Exception)}
    if errors and len(errors) == len(members):
        raise errors[0]
    failed = []
    for (name, aim), error in ((members[i], error) for i, error in errors.items()):
        log.error("prune     %s failed: %s", pruned_name(config, name, aim), error)
        told = {"model": pruned_name(config, name, aim), "unpruned": name, "aim": aim.what, "value": aim.value}
        failed.append(told | {"error": str(error) or type(error).__name__})
    table(config, manifest, failed)
    if failed:
        raise SomeFailed(
            f"{len(failed)} of {len(members)} could not be made, {failed[0]['model']}: {failed[0]['error']}"
        )
    return [folder for folder in found if isinstance(folder, Path)]


def aims(config: Config) -> list[Aim]:
    """The configuration's one target, or its ratios."""
    targets = [Aim(what, value) for what in UNITS if (value := getattr(config.prune, what)) is not None]
    return targets or [Aim("ratio", ratio) for ratio in config.prune.ratios]


def pruned_name(config: Config, source: str, aim: Aim) -> str:
    """Name of a pruned model: main_p50, main_macs50; with importance and scope where they are not the defaults."""
    given, usual = config.prune, Prune()
    unusual = [getattr(given, key) for key in ("importance", "scope") if getattr(given, key) != getattr(usual, key)]
    return "_".join([source, aim.suffix, *unusual])


def _in_steps(config: Config, manifest: Manifest, source: str, aim: Aim, retrain: Retrain) -> Path:
    name, steps = pruned_name(config, source, aim), config.prune.steps
    start, folder = source, config.models / name
    for step in range(1, steps + 1):
        folder = config.models / (name if step == steps else f"{name}_step{step}")
        _one(config, manifest, source, start, folder, aim, step)
        if step < steps:
            start = retrain(config, folder.name).name
    return folder


def _one(config: Config, manifest: Manifest, source: str, start: str, folder: Path, aim: Aim, step: int) -> None:
    """One step of pruning, from the model `start`, which is `source` or comes from it, into `folder`."""
    settings = config.prune
    known = read_card(config.models / start)
    manifest.check_trained_on(known.data_hash, start)
    told = {
        "from": known.weights_sha256, **asdict(aim), "step": [step, settings.steps], "seed": config.seed,
        **settings.model_dump(mode="json", include={"importance", "scope", "layers", "round_to", "keep"}),
    }  # fmt: skip
    if settings.importance in ("taylor", "deadness"):
        told |= settings.model_dump(include={"photos", "dead_below"})
    if _is_pruned(folder, digest(told), config.global_.overwrite):
        log.info("prune     %s up to date", folder.name)
        return
    network, card = finished_model(config.models / start)
    before = cost(network, card.recipe.size)
    own = {pattern: _part(ratio, settings.steps) for pattern, ratio in settings.layers.items()}
    score = _score(config, manifest, network, card)
    found = candidates(network, card.recipe.size, head(network), score, own)
    if aim.what == "ratio":
        ratio = _part(aim.value, settings.steps)
        removed = prune(network, card.recipe.size, found, ratio, settings)
    else:
        measure = _measure(aim.what, card)
        whole = measure(load_model(config.models / source)[0])
        goal = aim.value if aim.what == "ms" else aim.value * whole
        goal = whole * (goal / whole) ** (step / settings.steps)
        ratio, removed = prune_to(network, card.recipe.size, found, settings, measure, goal, UNITS[aim.what])
        if not removed and step == 1:
            raise ModelError(f"{start} meets the target of {goal:,.4g} {UNITS[aim.what]} as it is; nothing to prune")
    history = {"unpruned": source, "from": start, "ratio": ratio, "settings": told, "removed": removed}
    training = {"fingerprint": digest(told), "finished": True}
    save_model(
        folder,
        network,
        replace(card, name=folder.name, pruning=[*card.pruning, history], metrics={}, training=training),
    )
    after = cost(network, card.recipe.size)
    log.info(
        "prune     %s: %d channels of %d layers went; %.1f -> %.1f M MACs, %.2f -> %.2f M parameters", folder.name,
        sum(len(channels) for _, channels in removed), len(removed), before.macs / 1e6, after.macs / 1e6,
        before.parameters / 1e6, after.parameters / 1e6,
    )  # fmt: skip


def _part(ratio: float, steps: int) -> float:
    """The ratio per step that removes `ratio` in total."""
    return float(1 - (1 - ratio) ** (1 / steps))


def _is_pruned(folder: Path, fingerprint: str, overwrite: bool) -> bool:
    if overwrite or not (folder / CARD).is_file():
        return False
    if read_card(folder).training.get("fingerprint") != fingerprint:
        raise ModelError(
            f"{folder} was made with other settings or from other weights; prune anew with --set global.overwrite=true, "
            "or move it away"
        )
    return True


def _score(config: Config, manifest: Manifest, network: nn.Module, card: ModelCard) -> Any:
    settings = config.prune
    if settings.importance not in ("taylor", "deadness"):
        return importance(settings.importance, network, None, None, 0.0)
    train = manifest.part("train")
    sample = calibration_sample(train, settings.photos, config.seed, card.labels)
    sample = readable(manifest.root, sample)
    photos = torch.from_numpy(load_photos(manifest, sample, card.recipe))
    planes = Deployable(nn.Identity(), card.recipe)(photos)
    labels = torch.from_numpy(card.labels.ids(sample["species"].tolist()))
    return importance(settings.importance, network, planes, labels, settings.dead_below)


def _measure(what: str, card: ModelCard) -> Callable[[nn.Module], float]:
    if what == "ms":
        return lambda network: milliseconds([(network, card)])[0]
    key = "macs" if what == "macs" else "parameters"
    return lambda network: float(getattr(cost(network, card.recipe.size), key))
