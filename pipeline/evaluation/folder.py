"""Score an experiment on another labelled folder, e.g. of another camera or region."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.manifest import learnt_manifest
from pipeline.edge.model import Model
from pipeline.edge.sources import find
from pipeline.errors import DataError
from pipeline.evaluation.experiment import chosen, unreadable, with_interval
from pipeline.evaluation.metrics import headline, model_figures
from pipeline.evaluation.predict import Predictions, model_file, predict, predict_stages, stage_names
from pipeline.evaluation.routing import route, truth_ids
from pipeline.files import digest, nfc, safe_name, write_json


def evaluate_folder(config: Config, root: Path) -> dict[str, Any]:
    """Score models and cascade on <...>/<species>/<photo> below root; species joined by name, unknown ones counted apart.

    The rules are those of the experiment (val). Writes output/<experiment>/evaluation/images_<folder>.json.
    """
    rows = labelled_photos(root)
    tables = predict_stages(config, learnt_manifest(config), config.route.precision)
    rules = chosen(config, tables).rules
    there = [
        predict(Model(model_file(config, name, config.route.precision)), root, rows, digest(rows.to_dict("list")))
        for name in stage_names(config)
    ]
    bad = unreadable(there[0])
    there = [table.part("") for table in there]
    routed = route(there, rules)
    truth = truth_ids(there[0].rows["species"].tolist(), routed.labels)
    known = truth >= 0
    result: dict[str, Any] = {
        "folder": root.resolve().name,
        "photos": len(rows),
        "unreadable": bad,
        "known_species": sorted(set(there[0].rows["species"][known])),
        "unknown_species": sorted(set(there[0].rows["species"][~known])),
        "photos_of_unknown_species": int((~known).sum()),
        "unknown_sent_on": float(routed.sent_on[~known].mean()) if (~known).any() else None,
        "models": {},
    }
    for table in there:
        result["models"][table.name] = _on_known(table, known, config.seed)
    if known.any():
        result["cascade"] = headline(truth[known], routed.answers[known], routed.labels, config.seed)
        result["cascade"]["communication_rate"] = float(routed.sent_on[known].mean())
    path = config.output / "evaluation" / f"images_{safe_name(root.resolve().name)}.json"
    write_json(path, result)
    log.info(
        "eval      %s: %d photos, %d of them of %d unknown species and counted apart, %d unreadable",
        root, len(rows), result["photos_of_unknown_species"], len(result["unknown_species"]), len(bad),
    )  # fmt: skip
    for name, figures in [*result["models"].items(), *([("cascade", result["cascade"])] if known.any() else [])]:
        if figures:
            log.info(
                "  %-16s accuracy %s on %d photos of known species",
                name,
                with_interval(figures, "accuracy"),
                figures["photos"],
            )
    log.info("eval      figures: %s", path)
    return result


def _on_known(table: Predictions, known: Any, seed: int) -> dict[str, Any] | None:
    if not known.any():
        return None
    part = table.rows["species"][known].tolist()
    names = set(table.labels.names)
    if not table.labels.has_other and not set(part) <= names:
        raise DataError(f"{table.name} does not know {sorted(set(part) - names)[0]!r}, which a cache answers")
    return model_figures(table.labels.ids(part), table.logits[known], table.labels, seed)


def labelled_photos(root: Path) -> pd.DataFrame:
    """Photos below root whose folder's name is their species: image_path, species, split ("")."""
    files = [path for path in find([str(root)]) if path.parent != root] if root.is_dir() else []
    if not files:
        raise DataError(f"no photos in species folders below {root}; expected <species>/<photo>.jpg")
    rows = [(str(path.relative_to(root)), nfc(path.parent.name), "") for path in files]
    return pd.DataFrame(rows, columns=["image_path", "species", "split"])
