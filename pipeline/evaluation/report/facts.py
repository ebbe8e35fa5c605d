"""Contents of the report as plain lists and dicts for its templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config import Config
from pipeline.dataset.manifest import Manifest
from pipeline.dataset.splitting import SPLITS
from pipeline.evaluation.metrics import supports
from pipeline.evaluation.predict import Predictions
from pipeline.evaluation.tables import Judged, class_metrics, confused_pairs
from pipeline.labels import HEAD_ABOVE, TAIL_BELOW, long_tail
from pipeline.pages import thumbnail

WORST, PHOTOS_EACH, SAMPLE, PAIRS = 10, 5, 24, 20


def of_data(manifest: Manifest) -> dict[str, Any]:
    """Sizes of the splits, and of head, middle and tail."""
    good = manifest.rows[manifest.rows["split"] != ""]
    groups = sorted(good["group"].unique())
    splits = []
    for split in SPLITS:
        rows = good[good["split"] == split]
        of_group = {str(group): int((rows["group"] == group).sum()) for group in groups}
        splits.append({"split": split, "photos": len(rows), "species": rows["species"].nunique(), **of_group})
    train = supports(manifest.part("train"), manifest.species())
    parts = []
    for name, species in long_tail(train).items():
        counts = [train[n] for n in species]
        spread = f"{min(counts)} to {max(counts)}" if counts else "–"
        parts.append({"part": name, "species": len(species), "photos_to_train_on": sum(counts), "per_species": spread})
    shares = good["species"].value_counts(normalize=True).cumsum()
    half = int((shares < 0.5).sum()) + 1
    unreadable = int((~manifest.rows["ok"]).sum())
    left_out = len(manifest.rows) - len(good) - unreadable
    text = f"{len(good):,} photos of {good['species'].nunique()} species ({', '.join(groups)}); {half} species hold half of them."
    text += (
        " One split for all models: train teaches, val chooses, test reports. Photos that look alike stay in one split."
    )
    text += f" {unreadable:,} more photos cannot be used." if unreadable else ""
    text += f" {left_out:,} more are in no split; the manifest has the reasons." if left_out else ""
    return {
        "data": {"splits": splits, "parts": parts, "text": text},
        "head_above": HEAD_ABOVE, "tail_below": TAIL_BELOW,
    }  # fmt: skip


def of_models(metrics: dict[str, Any], test: list[Predictions], precision: str) -> dict[str, Any]:
    """Rows of the models' tables, and the flow through the cascade."""
    labels = {table.name: len(table.labels) for table in test}
    models: list[dict[str, Any]] = [
        {"name": f"{name} {kind}", "labels": labels[name], "figures": figures}
        for name, both in metrics["models"].items()
        for kind, figures in both.items()
        if isinstance(figures, dict)
    ]
    cascade, reaching, flow = metrics["cascade"][precision], 1.0, []
    for stage in cascade["stages"]:
        figures = metrics["models"][stage["name"]][precision]
        told = {"labels": labels[stage["name"]], "mb": figures["bytes"] / 1e6, "ms": figures["infer_ms"]}
        rule = cascade["rules"][stage["name"]]
        answers = "is off" if rule is None else f"answers from {rule['kind']} {rule['threshold']:.3f} on"
        answers = "always answers" if stage["name"] == test[-1].name and not test[-1].labels.has_other else answers
        flow.append({**stage, "spent": stage["ms"], **told, "answers": answers, "reaching": reaching})
        reaching -= stage["hit_rate"]
    whole = [m for m in models if "hit_share" not in m["figures"]]
    whole += [{"name": f"cascade {kind}", "figures": figures} for kind, figures in metrics["cascade"].items()]
    caches = [m for m in models if "hit_share" in m["figures"]]
    int8 = [
        (
            name,
            *(100 * x for x in (*both["int8_minus_fp32_accuracy_95"], both["int8_minus_fp32_accuracy"])),
            both["size_ratio"],
        )
        for name, both in metrics["models"].items()
    ]
    return {
        "int8": int8,
        "models": models,
        "whole": whole,
        "caches": caches,
        "cascades": metrics["cascade"],
        "flow": flow,
    }


def of_species(config: Config, manifest: Manifest, judged: Judged) -> dict[str, Any]:
    """The worst species with photos, all species, the most confused pairs, and a seeded sample of photos."""
    table = class_metrics(judged)
    train = supports(manifest.part("train"), judged.labels)
    there = table[table["support"] > 0].sort_values(["f1_score", "class_name"], kind="stable")
    worst = [_species(row, judged, manifest.root, train) for _, row in there.head(WORST).iterrows()]
    sample = np.random.default_rng(config.seed).permutation(len(judged.rows))[:SAMPLE]
    columns = {
        "class_name": "species",
        "precision": "precision",
        "recall": "recall",
        "f1_score": "F1",
        "support": "test photos",
    }
    every = there[list(columns)].rename(columns=columns).fillna({"precision": 0.0})
    every["photos to train on"] = [train.get(name, 0) for name in every["species"]]
    return {
        "worst": worst,
        "empty": table["class_name"][table["support"] == 0].tolist(),
        "pairs": confused_pairs(judged, PAIRS).to_dict("records"),
        "sample": [_photo(judged, int(i), manifest.root) for i in np.sort(sample)],
        "per_species": every.to_dict("records"),
    }


def _species(row: Any, judged: Judged, root: Path, train: dict[str, int]) -> dict[str, Any]:
    name = row["class_name"]
    mine = np.flatnonzero((judged.rows["species"] == name).to_numpy())
    wrong = mine[~judged.right[mine]]
    taken = pd.Series(judged.names(judged.answers[wrong])).value_counts(sort=True)
    most = ", ".join(f"{other} ({n})" for other, n in taken.head(4).items())
    text = f"{len(mine) - len(wrong)} of {len(mine)} right."
    text += f" Taken for {most}{' and others' if len(taken) > 4 else ''}." if most else ""
    shown = [*wrong[np.argsort(-judged.confidence[wrong], kind="stable")], *mine[judged.right[mine]]][:PHOTOS_EACH]
    photos = [_photo(judged, int(i), root) for i in shown]
    return {
        "species": name, "f1": row["f1_score"], "support": row["support"], "train": train.get(name, 0),
        "text": text, "photos": photos,
    }  # fmt: skip


def _photo(judged: Judged, i: int, root: Path) -> dict[str, Any]:
    return {
        "image": thumbnail(root / judged.rows["image_path"][i]),
        "truth": judged.rows["species"][i],
        "answer": judged.names(judged.answers[i : i + 1])[0],
        "right": bool(judged.right[i]),
        "confidence": float(judged.confidence[i]),
        "stage": str(judged.stage[i]),
    }


def origin(config: Config, metrics: dict[str, Any], manifest: Manifest) -> list[dict[str, str]]:
    """Seed, hashes and versions."""
    rows = {
        "seed": str(config.seed),
        "manifest": metrics["manifest"],
        "label space": manifest.species().hash,
        "settings": metrics["config"],
    }
    for name, both in metrics["models"].items():
        rows |= {
            f"{name} {kind}, sha256": figures["sha256"][:16]
            for kind, figures in both.items()
            if isinstance(figures, dict)
        }
    rows |= {f"version of {name}": value for name, value in metrics["versions"].items()}
    return [{"what": what, "value": value} for what, value in rows.items()]


def summary(data: dict[str, Any], metrics: dict[str, Any]) -> str:
    """The summary in one sentence."""
    cascade = metrics["cascade"][data["precision"]]
    low, high = cascade["accuracy_95"]
    species = data["data"]["splits"][0]["species"]
    text = (
        f"A cascade of {len(data['flow'])} models for {species} species. On {data['photos']:,} photos that it has never "
        f"seen it is right in {100 * cascade['accuracy']:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f})"
    )
    if "main_alone_accuracy" not in cascade:
        return f"{text}; it has no main model, and {100 * cascade['unknown_rate']:.0f} % of the photos get no answer."
    faster = cascade["ms_per_image_main_alone"] / cascade["ms_per_image"]
    speed = "faster" if faster >= 1 else "slower"
    return (
        f"{text}, {100 * cascade['accuracy_minus_main']['mean']:+.1f} points against the main model alone; "
        f"{100 * cascade['communication_rate']:.0f} % of the photos go on to main, and it is {speed} than main alone "
        f"({faster:.2f} times as fast) on the machine that measured it ({data['precision']})."
    )


def cards(data: dict[str, Any], metrics: dict[str, Any]) -> list[dict[str, str]]:
    """The headline figures."""
    cascade = metrics["cascade"][data["precision"]]

    def card(title: str, figure: str) -> dict[str, str]:
        low, high = cascade[f"{figure}_95"]
        return {"title": title, "value": f"{cascade[figure]:.3f}", "text": f"95 % interval {low:.3f} to {high:.3f}"}

    shown = {
        "accuracy of the cascade": "accuracy", "macro F1 of the cascade": "macro_f1",
        "accuracy of main alone": "main_alone_accuracy", "communication rate": "communication_rate",
    }  # fmt: skip
    return [card(title, figure) for title, figure in shown.items() if figure in cascade]
