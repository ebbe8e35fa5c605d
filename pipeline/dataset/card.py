"""Sections of the data card: contents, origin, licences and known defects of a data set."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

import pipeline
from pipeline.dataset.manifest import Manifest
from pipeline.dataset.overlap import group_title
from pipeline.dataset.page import Part, Row
from pipeline.dataset.splitting import SPLITS

LONGEST = 200  # rows of a list of photos; the manifest has all
PACKAGES = ("matplotlib", "numpy", "pandas", "pillow", "pyarrow", "scipy")


def overview(manifest: Manifest) -> Part:
    """Sizes and identity."""
    rows = manifest.rows
    good = rows[rows["split"] != ""]
    sizes: list[Row] = [(f"{split} photos", int((rows["split"] == split).sum())) for split in SPLITS]
    return Part(
        "At a glance",
        head=("what", "how many"),
        rows=[
            ("photos", len(good)),
            ("photos in no split", len(rows) - len(good)),
            ("species", good["species"].nunique()),
            ("groups", good["group"].nunique()),
            *sizes,
            ("labels", f"{len(manifest.labels)} ({manifest.labels.hash})"),
            ("seed", str(manifest.seed)),
            ("manifest", manifest.hash),
        ],
    )


def groups(manifest: Manifest, included: Sequence[str]) -> Part:
    """One row per group of the configuration, also where it is empty."""
    good = manifest.rows[manifest.rows["split"] != ""]
    rows: list[Row] = []
    for group in included:
        members = good[good["group"] == group]
        counts = members["species"].value_counts()
        dominant = int(counts.index.isin(manifest.labels.names).sum())
        spread = (int(counts.min()), float(counts.median()), int(counts.max())) if len(counts) else (0, 0, 0)
        parts = [int((members["split"] == split).sum()) for split in SPLITS]
        rows.append((group, len(counts), dominant, len(members), *parts, *spread))
    head = ("group", "species", "own label", "photos", *SPLITS, "fewest", "median", "most per species")
    return Part("Groups", head=head, rows=rows)


def species(manifest: Manifest) -> Part:
    """Every species with its photos per split, most photos first."""
    good = manifest.rows[manifest.rows["split"] != ""]
    table = good.groupby(["species", "group", "label_id", "split"]).size().unstack(fill_value=0)
    table = table.reindex(columns=list(SPLITS), fill_value=0)
    table["photos"] = table.sum(axis=1)
    table = table.reset_index().sort_values(["photos", "species"], ascending=[False, True])
    rows = [
        (i, name, group, "own" if manifest.labels.names[label] == name else manifest.labels.names[label], n, *parts)
        for i, (name, group, label, *parts, n) in enumerate(table.itertuples(index=False), 1)
    ]
    head = ("", "species", "group", "label", "photos", *SPLITS)
    return Part("Every species", head=head, rows=rows, folded=True)


def names(report: Mapping[str, Any]) -> list[Part]:
    """Outcome of the match, from its report; empty lists are left out."""
    parts = []
    for side, other, told in (
        ("photos", "region", "have photos but are not on the region's list"),
        ("region", "photos", "are on the region's list but have no photos"),
    ):
        lone = {group: members for group, members in report[f"only_in_{side}"].items() if members}
        near = [
            (group_title(group), name, candidate)
            for group, pairs in sorted(report[f"nearest_in_{other}"].items())
            for name, candidate in pairs.items()
        ]
        rows = [(group_title(group), len(members), ", ".join(members)) for group, members in sorted(lone.items())]
        text = f"{sum(map(len, lone.values())):,} species {told}."
        parts.append(Part(f"Names only in {side}", text, ("group", "species", "names"), rows, folded=True))
        hint = "For a person to look at: misspelt, or only alike. Nothing was joined for it."
        title = f"Names only in {side}, and the nearest name"
        parts.append(Part(title, hint, ("group", "name", "nearest"), near, folded=True))
    joined = [[(row["group"], row["folder"], row["listed"], row["how"]) for row in report[key]] for key in (
        "joined", "would_join_if_normalised"
    )]  # fmt: skip
    head = ("group", "folder", "listed", "how")
    parts.append(Part("Names joined though spelt differently", head=head, rows=joined[0], folded=True))
    parts.append(Part("Names that region.names: normalised would join", head=head, rows=joined[1], folded=True))
    unclear = [
        (group, name, ", ".join(folders))
        for group, found in report["ambiguous"].items()
        for name, folders in found.items()
    ]
    parts.append(Part("Names that fit several folders", head=("group", "listed", "folders"), rows=unclear, folded=True))
    both = [(name, ", ".join(s["photos"]), ", ".join(s["region"])) for name, s in report["in_two_groups"].items()]
    parts.append(Part("Names in two groups", head=("name", "photos", "region"), rows=both, folded=True))
    return [part for part in parts if part.rows] or [Part("Names", "Every species is on both sides.")]


def bad_photos(manifest: Manifest) -> Part:
    """Photos in no split: unreadable and excluded ones, with the reasons."""
    bad = manifest.rows[manifest.rows["split"] == ""]
    if bad.empty:
        return Part("Photos in no split", "None: every photo is used.")
    rows = list(bad[["image_path", "reason"]].head(LONGEST).itertuples(index=False, name=None))
    text = f"{len(bad):,} photos cannot be read or were left out; the manifest has them with the reason."
    text += _more(len(bad))
    return Part("Photos in no split", text, ("photo", "reason"), rows, folded=True)


def duplicates(manifest: Manifest) -> Part:
    """Groups of look-alikes: their number, and those filed under two names, one of which may be wrong."""
    good = manifest.rows[manifest.rows["split"] != ""]
    sizes = good["duplicate_group"].value_counts()
    many = good[good["duplicate_group"].isin(sizes[sizes > 1].index)].sort_values(["duplicate_group", "image_path"])
    equal = int((good["sha256"].duplicated(keep=False) & (good["sha256"] != "")).sum())
    under = many.groupby("duplicate_group")["species"].nunique()
    two = many[many["duplicate_group"].isin(under[under > 1].index)]
    text = (
        f"{len(many):,} photos look like another one or are of the same observation, and stay in its split "
        f"({int((sizes > 1).sum()):,} groups; {equal:,} of the photos are equal to the byte). "
        f"{two['duplicate_group'].nunique():,} groups stand under more than one species."
    ) + _more(len(two))
    rows = list(two[["duplicate_group", "species", "image_path"]].head(LONGEST).itertuples(index=False, name=None))
    return Part("Look-alikes", text, ("look-alike group", "species", "photo"), rows, folded=bool(rows))


def credits(manifest: Manifest, ledger: pd.DataFrame | None) -> pd.DataFrame | None:
    """Columns licence and holder of each photo in a split; None where nothing is known. ledger: columns image_path,
    licence, attribution, of downloaded photos; it counts where the manifest itself does not know."""
    used = manifest.rows[manifest.rows["split"] != ""]
    if {"licence", "holder"} & set(used):
        return used.reindex(columns=["licence", "holder"], fill_value="")
    if ledger is None:
        return None
    known = ledger.set_index(_stem(ledger["image_path"]))[["licence", "attribution"]]
    known = known[~known.index.duplicated()]
    return known.reindex(_stem(used["image_path"])).rename(columns={"attribution": "holder"})


def _stem(paths: pd.Series[str]) -> pd.Series[str]:
    return paths.str.replace(r"\.[^./]*$", "", regex=True)  # a photo that was stored anew has another extension


def licences(table: pd.DataFrame | None) -> Part:
    """Photos and their holders per licence, of the columns licence and holder."""
    if table is None:
        text = (
            "Not known: the photos came as files. They keep their photographers' licences; ask before passing them on."
        )
        return Part("Licences", text)
    named = table["licence"].replace("", None).fillna("not stated")
    counted = (
        table["holder"].replace("", None).groupby(named).agg(["size", "nunique"]).sort_values("size", ascending=False)
    )
    rows: list[Row] = [(str(name), int(n), int(people)) for name, n, people in counted.itertuples(name=None)]
    text = "The photos keep their licences; who passes on photos, or this card with its examples, names their holders."
    return Part("Licences", text, ("licence", "photos", "holders"), rows)


def shown(manifest: Manifest, table: pd.DataFrame, photos: Sequence[str]) -> Part:
    """Credits of the photos on this card's examples sheets. table: of `credits`; photos: their image_path."""
    used = manifest.rows.loc[manifest.rows["split"] != "", "image_path"]
    known = table[["licence", "holder"]].set_axis(used.tolist(), axis=0).loc[list(photos)]
    rows = list(known.replace("", None).fillna("not stated").itertuples(name=None))
    return Part("Photos on the examples sheets", head=("photo", "licence", "holder"), rows=rows, folded=True)


def test_sets(summary: Mapping[str, Mapping[str, Any]]) -> Part:
    """Balanced and imbalanced sets of the test split."""
    rows = [
        (name, s["photos"], s["species"], str(s.get("shares", "equal")), s.get("note", ""))
        for name, s in summary.items()
    ]
    text = "Drawn from the test split: shares of the windows of ranked species, the last of those behind them."
    return Part("Test sets", text, ("set", "photos", "species", "shares", ""), rows)


def settings(dump: Mapping[str, Any]) -> Part:
    """Every setting that the data set depends on."""
    rows: list[Row] = []

    def flatten(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                flatten(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            rows.append((prefix, json.dumps(value, ensure_ascii=False)))

    flatten("", dump)
    return Part("Settings", head=("key", "value"), rows=rows, folded=True)


def versions() -> dict[str, str]:
    """Software that made the data set."""
    found = {"ommatidia": pipeline.__version__, "python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in PACKAGES}


def provenance(hashes: Mapping[str, str]) -> Part:
    """Versions and the hashes of the files."""
    rows = [*versions().items(), *hashes.items()]
    return Part("Versions and hashes (sha256)", head=("what", "which"), rows=rows, folded=True)


def _more(n: int) -> str:
    return f" The first {LONGEST} are listed, the manifest has all." if n > LONGEST else ""
