"""Design an experiment's cascade from the stored predictions of all its trained models, and write the chosen design."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from pipeline.config import Config, save_config
from pipeline.console import log
from pipeline.dataset.manifest import learnt_manifest
from pipeline.dataset.plots import save
from pipeline.dataset.windows import cache_names
from pipeline.edge.rule import Rule
from pipeline.errors import LabelSpaceError, ModelError
from pipeline.evaluation.choosing.choice import choose
from pipeline.evaluation.choosing.learning import learn_rule, parts
from pipeline.evaluation.choosing.search import (
    Order,
    StageModel,
    best_next,
    candidates,
    figures,
    front,
    order,
    perfect_routing,
    search,
)  # fmt: skip
from pipeline.evaluation.choosing.sweep import THRESHOLDS
from pipeline.evaluation.experiment import part
from pipeline.evaluation.predict import FILES, Predictions, check_same_photos, predict_stages
from pipeline.files import write_csv, write_json
from pipeline.style import BLUE, GREEN, RED

LEARN_SHARE = 0.5  # of val, where the configuration has none: the other half tests the promise of the chosen design
ALL = len(THRESHOLDS) - 1  # the place of threshold 0: every hit is an answer


@dataclass(frozen=True)
class Searched:
    """All designs of one precision. val, learn: predictions by model name; stages: models by name."""

    precision: str
    val: dict[str, Predictions]
    learn: dict[str, Predictions]
    stages: dict[str, StageModel]
    orders: list[Order]

    def order(self, names: list[str]) -> Order:
        """The order of these stages."""
        *caches, main = [self.stages[name] for name in names]
        return order(caches, main)


def design(config: Config) -> dict[str, Any]:
    """Search the designs of both precisions; writes output/<experiment>/design/: design.json, front.csv, a picture, and
    config.yaml, the configuration with the chosen stages, for eval.py and deploy.py.
    """
    start = time.perf_counter()
    share = config.route.learn_share or LEARN_SHARE
    searched = {precision: _search(config, precision, share) for precision in FILES}
    rows = _front(list(searched.values()))
    alone = {precision: figures(one.order(["main"]), ALL) for precision, one in searched.items()}
    wanted = max(one["accuracy"] for one in alone.values()) - config.route.max_drop
    best = rows[rows["accuracy"] >= wanted].iloc[0]
    mine, stages = searched[best["precision"]], best["stages"]
    reference = "" if stages[-1] == "main" else "main"
    update = {"stages": stages, "reference": reference, "precision": mine.precision, "learn_share": share}
    route = config.route.model_copy(update=update)
    choice = choose([mine.val[name] for name in stages], route, config.seed, mine.val[reference] if reference else None)
    users = [*(name for name in cache_names(config) if name in mine.stages), "main"]
    result = {
        "experiment": config.experiment,
        "designs": sum(len(one.orders) for one in searched.values()) * len(THRESHOLDS),
        "val_photos_that_design": len(mine.stages["main"].right),
        "seconds": round(time.perf_counter() - start, 2),
        "chosen": best.to_dict(),
        "rules": {name: rule and asdict(rule) for name, rule in zip(stages, choice.rules, strict=True)},
        "promise": choice.told,
        "main_alone": alone,
        "other_only": {"stages": users, **figures(mine.order(users), ALL)},
        "lower_bound": dict(zip(("accuracy", "ms"), perfect_routing(list(mine.stages.values())), strict=True)),
        "best_next_cache": best_next(
            mine.order(stages), THRESHOLDS.tolist().index(best["threshold"]),
            [table for table in mine.learn.values() if table.labels.has_other], [mine.learn[name] for name in stages],
        ),
    }  # fmt: skip
    folder = config.output / "design"
    write_json(folder / "design.json", result)
    write_csv(folder / "front.csv", rows.assign(stages=rows["stages"].map(" ".join)))
    _plot(folder / "design.png", rows, result)
    save_config(config.model_copy(update={"route": route}), folder / "config.yaml")
    _tell(folder, result)
    return result


def _search(config: Config, precision: str, share: float) -> Searched:
    val = _tables(config, precision)
    learn, _ = parts(list(val.values()), share, config.seed)
    rules = [learn_rule(t, learn[-1], config.route.rule) if t.labels.has_other else Rule() for t in learn]
    stages = dict(zip(val, candidates(learn, rules), strict=True))
    wanted = float(stages["main"].right.mean()) - config.route.max_drop
    caches, mains = ([stages[name] for name in val if val[name].labels.has_other is other] for other in (True, False))
    orders = [one for main in mains for one in search(caches, main, wanted)]
    return Searched(precision, val, dict(zip(val, learn, strict=True)), stages, orders)


def _tables(config: Config, precision: str) -> dict[str, Predictions]:
    """Predictions on val of every exported model that fits main, main's last; what is missing is predicted.

    What is left out is told: another manifest's models, and those that have neither "Other" nor main's species.
    """
    manifest = learnt_manifest(config)
    names = sorted(path.parent.name for path in config.models.glob(f"*/{FILES[precision]}"))
    if "main" not in names:
        raise ModelError(
            f"no exported main in {config.models}; run train.py and quantize.py with the same --config first"
        )
    found: dict[str, Predictions] = {}
    for name in ["main", *(name for name in names if name != "main")]:
        one = config.model_copy(update={"route": config.route.model_copy(update={"stages": [name]})})
        try:
            [table] = part(predict_stages(one, manifest, precision), "val")
            if name != "main":
                check_same_photos([table, found["main"]])
        except (LabelSpaceError, ModelError) as error:
            if name == "main":
                raise
            log.warning("design    leaves %s out: %s", name, error)
            continue
        if name == "main" or table.labels.has_other or set(table.labels.names) == set(found["main"].labels.names):
            found[name] = table
        else:
            log.warning("design    leaves %s out: its labels have no Other, and are not those of main", name)
    if not any(table.labels.has_other for table in found.values()):
        raise ModelError(
            f"no exported cache in {config.models}; run train.py and quantize.py with the same --config first"
        )
    return {**{name: table for name, table in found.items() if name != "main"}, "main": found["main"]}


def _front(searched: list[Searched]) -> pd.DataFrame:
    """One row per design of the Pareto front, from fast to accurate."""
    rows = [
        {
            "precision": one.precision,
            "stages": found.names,
            "threshold": float(THRESHOLDS[at]),
            **figures(found, at),
        }
        for one in searched
        for found, at in front(one.orders)
    ]
    table = pd.DataFrame(rows).sort_values(["ms", "accuracy"], ascending=[True, False])
    return table[table["accuracy"] > table["accuracy"].cummax().shift(fill_value=-1)].reset_index(drop=True)


def _plot(path: Path, rows: pd.DataFrame, result: dict[str, Any]) -> None:
    """Accuracy against ms: the front, the choice, and what it is compared with."""
    figure, axes = plt.subplots(figsize=(8, 5))
    axes.step(rows["ms"], rows["accuracy"], where="post", color=GREEN, linewidth=2, label="best designs")
    points = [("chosen", result["chosen"], "o", RED), ("users' rule (Other only)", result["other_only"], "s", BLUE)]
    points += [(f"main alone, {p}", one, "^", "0.3") for p, one in result["main_alone"].items()]
    points += [("one more cache, if perfect", result["best_next_cache"], "D", "0.6")]
    points += [("lower bound: perfect routing", result["lower_bound"], "*", "0.6")]
    for name, one, marker, colour in points:
        told = f"{name}: {one['accuracy']:.3f}, {one['ms']:.1f} ms"
        axes.plot(one["ms"], one["accuracy"], marker, color=colour, markersize=8, label=told)
    axes.set(xlabel="ms per photo (medians, one thread)", ylabel="accuracy on the part of val that designs")
    axes.set_title(f"{result['designs']:,} designs")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False, fontsize=9)
    axes.grid(alpha=0.3)
    save(figure, path)


def _tell(folder: Path, result: dict[str, Any]) -> None:
    log.info(
        "design    %d designs in %.1f s, on %d val photos", result["designs"], result["seconds"],
        result["val_photos_that_design"],
    )  # fmt: skip
    chosen, oracle = result["chosen"], result["best_next_cache"]
    lines = [(f"chosen: {chosen['precision']} {' > '.join(chosen['stages'])}", chosen)]
    lines += [(f"main alone, {precision}", one) for precision, one in result["main_alone"].items()]
    lines += [(f"users' rule: {' > '.join(result['other_only']['stages'])}", result["other_only"])]
    lines += [(f"with a perfect next cache of {len(oracle['species'])} species", oracle)]
    lines += [("lower bound: perfect routing", result["lower_bound"])]
    for name, one in lines:
        log.info("  %-48s accuracy %.4f, %.2f ms", name, one["accuracy"], one["ms"])
    log.info("design    the other part of val: %s", result["promise"])
    log.info(
        "design    use it: eval.py --config %s, then deploy.py with the same; both find the rules in design.json again",
        folder / "config.yaml",
    )
