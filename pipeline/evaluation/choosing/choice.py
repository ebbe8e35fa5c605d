"""Choose the caches' rules and thresholds on val so that the bound on the loss of accuracy holds for new photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.edge.rule import Rule
from pipeline.errors import LabelSpaceError
from pipeline.evaluation.choosing.learning import learn_path, learn_rule, parts
from pipeline.evaluation.choosing.promise import drop_needed, drop_p_value, last_accepted, most, photos_needed
from pipeline.evaluation.choosing.sweep import THRESHOLDS, Sweep, one_for_all, sweep
from pipeline.evaluation.predict import Predictions, check_same_photos
from pipeline.evaluation.routing import Rules
from pipeline.sections.evaluation import Route


@dataclass(frozen=True)
class Choice:
    """rules: one per stage; told: their promise as a sentence; chosen_on: "val" or "config"."""

    rules: Rules
    told: str
    chosen_on: str = "val"


def choose(tables: Sequence[Predictions], settings: Route, seed: int, reference: Predictions | None = None) -> Choice:
    """Rules of the stages from their predictions on VAL; main always answers. Without main, a threshold must be given.

    The drop is against `reference`, on the same photos; none: against the last stage, which is main then.

    The thresholds fall along a single path from "off" to "answer every hit" that is fixed beforehand, which is what a
    sequence of tests can walk (see promise.last_accepted): one threshold for all caches, or each its own in an order that
    is learnt. What is learnt comes from another part of val.
    """
    against = tables[-1] if reference is None else reference
    check_same_photos([*tables, against])
    if full := [table.name for table in tables[:-1] if not table.labels.has_other]:
        raise LabelSpaceError(
            f'{full[0]} has no "Other", so it answers every photo and nothing comes to the stages after it; put it last in '
            "route.stages, or leave it out"
        )
    if settings.threshold == "auto" and tables[-1].labels.has_other:
        raise LabelSpaceError("route.threshold auto compares with main, which is no stage here; set it to a number")
    learn, [*test, against] = parts([*tables, against], settings.learn_share, seed)
    learn = learn[:-1]
    caches = [learn_rule(table, learn[-1], settings.rule) for table in learn if table.labels.has_other]
    main = [Rule()] * (len(tables) - len(caches))
    if settings.threshold != "auto":
        rules = [*(replace(rule, threshold=settings.threshold) for rule in caches), *main]
        return Choice(rules, "the thresholds are those of the configuration and promise nothing", "config")
    if not caches and reference is None:
        return Choice(main, "main alone")
    path = learn_path(learn, caches) if settings.own_thresholds and caches else one_for_all(len(caches))
    found = sweep(test, caches, path, against)
    step = accurate(found, settings)
    if step is None:
        return Choice([*[None] * len(caches), *main], _off(found, settings))
    more = ""
    if settings.max_ms is not None or settings.max_communication is not None:
        step, more = _within_target(found, step, settings)
    set_ = [
        replace(rule, threshold=float(THRESHOLDS[place])) if place >= 0 else None
        for rule, place in zip(caches, path[step], strict=True)
    ]
    return Choice([*set_, *main], _kept(found, step, set_, settings) + more)


def accurate(found: Sweep, settings: Route) -> int | None:
    """The step with the lowest communication among those that keep the promise on accuracy."""
    worse, better = found.worse.tolist(), found.better.tolist()
    return last_accepted(
        range(len(worse)),
        lambda i: drop_p_value(worse[i], better[i], found.photos, settings.max_drop) <= 1 - settings.confidence,
    )


def _within_target(found: Sweep, step: int, settings: Route) -> tuple[int, str]:
    """The strictest step that keeps the targets on communication and ms, if it also keeps the promise on accuracy."""
    strictest = last_accepted(range(len(found.worse) - 1, -1, -1), lambda i: _keeps_target(found, i, settings))
    if strictest is None or strictest > step:
        return step, "; max_ms or max_communication CANNOT be kept as well, so it is not"
    return strictest, "; max_ms and max_communication, where given, are kept as surely"


def _keeps_target(found: Sweep, step: int, settings: Route) -> bool:
    error, reach = 1 - settings.confidence, found.reach[:, step]
    if settings.max_communication is not None and most(reach[-1], found.photos, error) > settings.max_communication:
        return False
    if settings.max_ms is None:
        return True
    later = [most(count, found.photos, error / (len(reach) - 1)) for count in reach[1:]]  # all of them hold at once
    return bool(found.costs[0] + np.dot(found.costs[1:], later) <= settings.max_ms)


def _kept(found: Sweep, step: int, rules: Rules, settings: Route) -> str:
    scores = ["off" if rule is None else f"{rule.threshold:.4g}" for rule in rules]
    told = f"scores of {', '.join(scores)}" if settings.own_thresholds else f"a score of {', '.join(scores[:1])}"
    main = settings.reference or "main"
    return (
        f"{f'caches answer from {told}' if scores else 'no cache'}: with {settings.confidence:.0%} confidence the cascade is "
        f"at most {100 * settings.max_drop:g} points less accurate than {main} ({found.photos} val photos, {main} alone right "
        f"on {found.worse[step]}, the cascade alone on {found.better[step]})"
    )


def _off(found: Sweep, settings: Route) -> str:
    worse, better, error = int(found.worse[0]), int(found.better[0]), 1 - settings.confidence
    photos = photos_needed(worse, better, found.photos, settings.max_drop, error)
    enough = f"about {photos} val photos or " if photos else ""
    nothing = f" and NOTHING is promised against {settings.reference}" if settings.reference else ""
    return (
        f"the caches are OFF{nothing}: no threshold keeps a drop of at most {100 * settings.max_drop:g} points with "
        f"{settings.confidence:.0%} confidence on {found.photos} val photos; it would take {enough}"
        f"route.max_drop={drop_needed(worse, better, found.photos, error):g}"
        f" ({drop_needed(int(found.worse[-1]), int(found.better[-1]), found.photos, error):g} to answer every hit)"
    )
