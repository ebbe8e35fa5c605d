"""Model card and data card of a bundle: intended use, limits, licences and measured figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.dataset import card
from pipeline.dataset.manifest import Manifest
from pipeline.dataset.page import Part, Row, render
from pipeline.evaluation.experiment import with_interval
from pipeline.labels import HEAD_ABOVE, TAIL_BELOW

WORST = 10
TOLD = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1: the mean over species",
    "head_accuracy": f"accuracy on species with more than {HEAD_ABOVE} photos to train on",
    "middle_accuracy": "accuracy on those between",
    "tail_accuracy": f"accuracy on species with fewer than {TAIL_BELOW}",
    "main_alone_accuracy": "accuracy of main alone",
    "communication_rate": "share of the photos that reach main, or that no cache answers where there is none",
    "ece": "calibration error of the score",
}
USE = (
    "Naming the species on photos of the kind it learnt from, offline and on a small device: to sort photos, to count "
    "visits, to find those that a person should look at. Every answer has a score; where it matters, a person decides."
)
NOT_FOR = (
    "Decisions that nobody checks: whether something is edible or venomous, protected or to be controlled, or evidence of "
    "where a species occurs. A photo of a species that is not on the list, or of none, is answered with one that is."
)
LICENCES = (
    "The code is under the MIT licence. The networks learnt from photos that keep their photographers' licences (see "
    "DATA_CARD.md), and those that did not start from nothing also from weights with a licence of their own: look at both "
    "before you pass the bundle on."
)


def model_card(
    description: dict[str, Any], metrics: dict[str, Any], stages: Sequence[dict[str, Any]], species: pd.DataFrame
) -> str:
    """Markdown. description: cascade.json; metrics: metrics.json; stages: what each ONNX file says of itself;
    species: the evaluation's report per species, worst first."""
    precision = description["precision"]
    figures = metrics["cascade"][precision]
    names = stages[-1]["labels"]
    lead = f"A cascade of {len(stages)} stages for {len(names)} labels, {precision}, measured on {figures['photos']:,} photos."
    parts = [
        Part("Intended use", USE),
        Part("Not intended", NOT_FOR),
        Part(
            "Figures",
            "On the test split, which chose nothing; 95 % intervals by bootstrap over photos.",
            ("what", "value"),
            [(text, with_interval(figures, key)) for key, text in TOLD.items() if figures.get(f"{key}_95")],
        ),
        Part(
            "Stages",
            "In the order in which they are asked, each alone on the same photos (a cache knows its species and Other).",
            ("stage", "network", "started from", "labels", "px", "MB", "accuracy", "macro F1"),
            [_stage(one, metrics["models"][one["name"]][precision]) for one in stages],
        ),
        Part("Limits", _limits(description, metrics, figures)),
        Part("Species it knows least", "", ("species", "F1", "test photos"), _worst(species)),
        Part("Licences", LICENCES),
        Part("Made with", "", ("what", "which"), _origin(description, stages)),
    ]
    return render(f"{description['experiment']}: model card", lead, parts, "page.md.jinja", Path())


def data_card(experiment: str, manifest: Manifest, groups: Sequence[str], ledger: pd.DataFrame | None) -> str:
    """Markdown, without pictures and without the names of photos; ledger: of downloaded photos."""
    parts = [
        card.overview(manifest),
        card.groups(manifest, groups),
        card.licences(card.credits(manifest, ledger)),
        replace(card.duplicates(manifest), rows=()),
        card.species(manifest),
    ]
    lead = "What the networks learnt from, were chosen by and were measured on."
    return render(f"{experiment}: data card", lead, parts, "page.md.jinja", Path())


def _stage(card: dict[str, Any], figures: dict[str, Any]) -> Row:
    size = f"{figures['bytes'] / 1e6:.2f}"
    return (
        card["name"], card["architecture"], card["pretrained"], len(card["labels"]), card["recipe"]["size"], size,
        with_interval(figures, "accuracy"), with_interval(figures, "macro_f1"),
    )  # fmt: skip


def _limits(description: dict[str, Any], metrics: dict[str, Any], figures: dict[str, Any]) -> str:
    text = (
        "The figures hold for photos like those of the data set: another camera, region or season, other backgrounds and "
        "smaller subjects give lower ones. Rare species are known less than frequent ones. One answer per photo: of two "
        f"species on it, one is named. Promise on accuracy: {figures['promise']}."
    )
    if unreadable := len(metrics["unreadable"]):
        text += f" {unreadable} photos could not be read and are not in the figures."
    if description["precision"] == "int8":
        main = metrics["models"][description["stages"][-1]["name"]]
        text += f" int8 changes the last stage's accuracy by {main['int8_minus_fp32_accuracy']:+.4f} against fp32."
    return text


def _worst(species: pd.DataFrame) -> list[Row]:
    known = species[species["support"].fillna(0) > 0]
    names = known.columns[0]
    rows = known[~known[names].isin(["accuracy", "macro avg", "weighted avg"])].sort_values("f1-score", kind="stable")
    return [(str(row[names]), f"{row['f1-score']:.2f}", int(row["support"])) for _, row in rows.head(WORST).iterrows()]


def _origin(description: dict[str, Any], stages: Sequence[dict[str, Any]]) -> list[Row]:
    found = {"data set (manifest)": description["manifest"], "seed": str(stages[-1]["seed"])}
    return list({**found, **description["versions"]}.items())
