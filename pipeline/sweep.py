"""Train and evaluate many experiments: every combination of the values in the section `sweep`.

A member is an experiment of its own, named after its values, on the data set of the base experiment. Where no value changes
main, all members share the base's main model. Members of a sweep over `prune` are pruned, trained on and judged so. A
member that fails does not stop the others.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.cluster import LOCAL, Engine
from pipeline.compression.pruned import aims, prune_models, pruned_name
from pipeline.compression.run import quantize_models
from pipeline.config import Config, override
from pipeline.console import DONE, SOME_FAILED, log
from pipeline.errors import ConfigError
from pipeline.evaluation.predict import stage_names
from pipeline.evaluation.run import evaluate
from pipeline.files import read_json, safe_name, write_csv
from pipeline.models.checkpoint import CARD, RETRAINED, read_card
from pipeline.training.run import left_out, retrain, train_role

OWN = ("main", "cache", "prune", "quantize", "route")  # sections that a member may have its own values of
Row = dict[str, Any]


def train_members(config: Config, engine: Engine = LOCAL) -> int:
    """Train main and the caches of every member; returns the exit code. Table: output/<experiment>/sweep_train.csv."""
    members, code = expand(config), DONE
    if _shares_main(config):
        for found in engine.each(_train_main, [config]):
            if isinstance(found, Exception):
                raise found
            code = SOME_FAILED if found else DONE

    def train(member: Config) -> tuple[list[Row], int]:
        _take_main(config, member)
        main = [member.models / "main"] if _shares_main(config) else train_role(member, "main")
        folders = [*main, *train_role(member, "cache")]
        if _prunes(config):
            folders += prune_models(member, [folder.name for folder in folders], retrain, last=True)
        cards = [read_card(folder) for folder in folders]
        rows = [{"model": c.name, "labels": len(c.labels), "epoch": c.training["epoch"], **c.metrics} for c in cards]
        return rows, left_out(folders)

    return max(code, _each(members, train, config.output / "sweep_train.csv", engine))


def _train_main(config: Config) -> int:
    return left_out(train_role(config, "main"))


def evaluate_members(config: Config) -> int:
    """Quantize and evaluate every member; returns the exit code. Table: output/<experiment>/sweep_eval.csv."""
    members = expand(config)
    if _shares_main(config):
        quantize_models(config, ["main"])

    def judge(member: Config) -> tuple[list[Row], int]:
        _take_main(config, member)
        if _prunes(config):
            (aim,) = aims(member)
            stages = [pruned_name(member, name, aim) + RETRAINED for name in stage_names(member)]
            member = override(member, {"route.stages": stages})
        quantize_models(member, stage_names(member) if _prunes(config) else None)
        unreadable = evaluate(member)
        figures = read_json(member.output / "metrics.json", "figures of the evaluation")
        precision = member.route.precision
        models = {name: found[precision] for name, found in figures["models"].items()}
        return [
            _figures(name, found) for name, found in {**models, "cascade": figures["cascade"][precision]}.items()
        ], unreadable

    return _each(members, judge, config.output / "sweep_eval.csv")


def expand(config: Config) -> dict[str, tuple[Config, Row]]:
    """Members by name, each with its configuration and its values; all are checked before any starts."""
    if not config.sweep:
        raise ConfigError(
            "the section sweep is empty; give it keys with lists, e.g. sweep: {cache.threshold: [0.2, 0.5]}"
        )
    if wrong := [key for key in config.sweep if key.partition(".")[0] not in OWN]:
        raise ConfigError(
            f"sweep.{wrong[0]}: all members share the data set; sweep over main, cache, prune, quantize or route"
        )
    found: dict[str, tuple[Config, Row]] = {}
    for values in itertools.product(*config.sweep.values()):
        row = dict(zip(config.sweep, values, strict=True))
        parts = [f"{key.rpartition('.')[2]}_{value}" for key, value in row.items()]
        name = safe_name("-".join([config.experiment, *parts]))
        changes = {"experiment": name, "sweep": {}, "paths.dataset_dir": str(config.dataset_dir), **row}
        member = override(config, changes)
        if _prunes(config) and len(aims(member)) != 1:
            raise ConfigError(
                "a member of a sweep is pruned in one way; list ratios alone: sweep.prune.ratios: [[0.1], [0.2]]"
            )
        found[name] = member, row
    if len(found) < len(list(itertools.product(*config.sweep.values()))):
        raise ConfigError("two members of the sweep have the same name; list each value once")
    return found


def _each(
    members: dict[str, tuple[Config, Row]],
    work: Callable[[Config], tuple[list[Row], int]],
    table: Path,
    engine: Engine = LOCAL,
) -> int:
    """Do the work for every member, write and show the table; returns the exit code. Where all members failed, the first
    one's error is raised."""
    rows: list[Row] = []
    errors: list[Exception] = []
    code = DONE

    def begin(name: str) -> tuple[list[Row], int]:
        log.info("sweep     %s", name)
        return work(members[name][0])

    for (name, (_, values)), result in zip(members.items(), engine.each(begin, list(members)), strict=True):
        if isinstance(result, Exception):
            log.error("sweep     %s failed: %s", name, result)
            errors.append(result)
            found, unreadable = [{"error": str(result) or type(result).__name__}], 1
        else:
            found, unreadable = result
        rows += [{"experiment": name, **{key: str(value) for key, value in values.items()}, **row} for row in found]
        code = SOME_FAILED if unreadable else code
    frame = pd.DataFrame(rows)
    write_csv(table, frame)
    log.info("%s\nsweep     table: %s", frame.to_string(index=False, na_rep="", float_format="%.4f"), table)
    if len(errors) == len(members):
        raise errors[0]
    return code


def _figures(name: str, figures: Row) -> Row:
    kept: Iterable[str] = ("accuracy", "macro_f1", "communication_rate", "bytes", "infer_ms")
    return {"model": name, **{key: figures[key] for key in kept if key in figures}}


def _prunes(config: Config) -> bool:
    """Whether members are pruned and retrained models."""
    return any(key.startswith("prune.") for key in config.sweep)


def _shares_main(config: Config) -> bool:
    return not any(key.startswith("main.") for key in config.sweep)


def _take_main(config: Config, member: Config) -> None:
    """Give a member the base's main model, as hard links where the file system has them.

    Files that the member made from it, such as int8 by its own settings, stay.
    """
    source, target = config.models / "main", member.models / "main"
    if not _shares_main(config):
        return
    card = target / CARD
    if not card.is_file() or card.read_bytes() != (source / CARD).read_bytes():  # it holds the hash of the weights
        shutil.rmtree(target, ignore_errors=True)
    for file in source.rglob("*"):
        if file.is_file() and not (target / file.relative_to(source)).exists():
            _link(file, target / file.relative_to(source))


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
