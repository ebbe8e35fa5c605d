"""The data card: what is in a data set, where it comes from and what is wrong with it, as one HTML page and Markdown."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

import pipeline
from pipeline.dataset.manifest import Manifest
from pipeline.dataset.splitting import SPLITS

LONGEST = 200  # rows of a list of photos; the manifest has them all
PACKAGES = ("matplotlib", "numpy", "pandas", "pillow", "pyarrow", "scipy")
MIME = {".png": "image/png", ".jpg": "image/jpeg"}
Row = Sequence[str | int | float]


@dataclass(frozen=True)
class Part:
    """One part of the card. pictures: (path, caption); folded: shown only when it is asked for."""

    title: str
    text: str = ""
    head: Row = ()
    rows: Sequence[Row] = ()
    pictures: Sequence[tuple[Path, str]] = ()
    folded: bool = False


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
    head = ("group", "species", "with a label of their own", "photos", *SPLITS, "fewest", "median", "most per species")
    return Part("Groups", head=head, rows=rows)


def species(manifest: Manifest) -> Part:
    """Every species with its photos per split, most photos first."""
    good = manifest.rows[manifest.rows["split"] != ""]
    table = good.groupby(["species", "group", "split"]).size().unstack(fill_value=0)
    table = table.reindex(columns=list(SPLITS), fill_value=0)
    table["photos"] = table.sum(axis=1)
    table = table.reset_index().sort_values(["photos", "species"], ascending=[False, True])
    own = set(manifest.labels.names)
    rows = [
        (i, name, group, "own" if name in own else "Other", n, *parts)
        for i, (name, group, *parts, n) in enumerate(table.itertuples(index=False), 1)
    ]
    head = ("", "species", "group", "label", "photos", *SPLITS)
    return Part("Every species", head=head, rows=rows, folded=True)


def unmatched(report: Mapping[str, Any]) -> list[Part]:
    """Names without a partner on the other side. report: of the stage match, {side: {group: names}}."""
    parts = []
    for side, told in (
        ("only_in_photos", "have photos but are not on the region's list"),
        ("only_in_region", "are on the region's list but have no photos"),
    ):
        names = {group: list(members) for group, members in report[side].items() if members}
        total = sum(map(len, names.values()))
        rows = [(group, len(members), ", ".join(members)) for group, members in sorted(names.items())]
        text = f"{total:,} species {told}."
        parts.append(Part(f"Names {side.replace('_', ' ')}", text, ("group", "", "names"), rows, folded=bool(rows)))
    return parts


def bad_photos(manifest: Manifest) -> Part:
    """Photos that cannot be used, and why."""
    bad = manifest.rows[manifest.rows["split"] == ""]
    if bad.empty:
        return Part("Photos that cannot be used", "None: every photo was decoded completely.")
    rows = list(bad[["image_path", "reason"]].head(LONGEST).itertuples(index=False, name=None))
    text = f"{len(bad):,} photos; they are in the manifest with their reason, in no split." + _more(len(bad))
    return Part("Photos that cannot be used", text, ("photo", "reason"), rows, folded=True)


def duplicates(manifest: Manifest) -> Part:
    """Photos that look alike: how many, and those that stand under two names, where one of the names may be wrong."""
    good = manifest.rows[manifest.rows["split"] != ""]
    sizes = good["duplicate_group"].value_counts()
    many = good[good["duplicate_group"].isin(sizes[sizes > 1].index)].sort_values(["duplicate_group", "image_path"])
    equal = int(good["sha256"].duplicated(keep=False).sum())
    names = many.groupby("duplicate_group")["species"].nunique()
    two = many[many["duplicate_group"].isin(names[names > 1].index)]
    text = (
        f"{len(many):,} photos look like another one ({int((sizes > 1).sum()):,} groups; {equal:,} of the photos are equal "
        f"to the byte); look-alikes are in one split. {two['duplicate_group'].nunique():,} groups stand under more than "
        "one species."
    ) + _more(len(two))
    rows = list(two[["duplicate_group", "species", "image_path"]].head(LONGEST).itertuples(index=False, name=None))
    return Part("Look-alikes", text, ("look-alike group", "species", "photo"), rows, folded=bool(rows))


def credits(manifest: Manifest, ledger: pd.DataFrame | None) -> pd.DataFrame | None:
    """Columns licence and holder of each photo in a split; None where nothing is known. ledger: columns image_path,
    licence, attribution, of downloaded photos; it counts where the manifest itself does not know."""
    used = manifest.rows[manifest.rows["split"] != ""]
    if "licence" in used:
        return used[["licence", "holder"]]
    if ledger is None:
        return None
    known = ledger[["image_path", "licence", "attribution"]].rename(columns={"attribution": "holder"})
    return used[["image_path"]].merge(known, on="image_path", how="left")[["licence", "holder"]]


def licences(table: pd.DataFrame | None) -> Part:
    """Photos and their holders per licence, of the columns licence and holder."""
    if table is None:
        text = (
            "Not known: the photos came as files. They keep their photographers' licences; ask before passing them on."
        )
        return Part("Licences", text)
    named = table["licence"].replace("", None).fillna("not stated")
    counted = table["holder"].groupby(named).agg(["size", "nunique"]).sort_values("size", ascending=False)
    rows: list[Row] = [(str(name), int(n), int(people)) for name, n, people in counted.itertuples(name=None)]
    text = "The photos keep their licences; who passes on photos, or this card with its examples, names their holders."
    return Part("Licences", text, ("licence", "photos", "holders"), rows)


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
    """What made the data set."""
    found = {"ommatidia": pipeline.__version__, "python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in PACKAGES}


def provenance(hashes: Mapping[str, str]) -> Part:
    """Versions and the hashes of the files."""
    rows = [*versions().items(), *hashes.items()]
    return Part("Versions and hashes (sha256)", head=("what", "which"), rows=rows, folded=True)


def _more(n: int) -> str:
    return f" The first {LONGEST} are listed, the manifest has all." if n > LONGEST else ""


# writing ------------------------------------------------------------------------------------------------------------


def render(title: str, lead: str, parts: Sequence[Part], template: str, root: Path) -> str:
    """The card by one of the templates beside this file; `root` is the folder that the Markdown card stands in.

    Names from outside cannot become markup: HTML is escaped, and Markdown's own characters are too.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=template.endswith(".html.jinja"),
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"md": _markdown, "cell": _cell, "embedded": _embedded, "below": lambda p: _below(p, root)}
    return environment.get_template(template).render(title=title, lead=lead, parts=parts)


def _cell(value: str | int | float) -> str:
    return value if isinstance(value, str) else f"{value:,g}" if isinstance(value, float) else f"{value:,}"


def _markdown(text: str) -> str:
    """The text as Markdown shows it literally, on one line."""
    return (
        re.sub(r"([\\`*_{}\[\]()#+!|~$-])", r"\\\1", " ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;")
    )


def _embedded(path: Path) -> str:
    return f"data:{MIME[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix().replace(" ", "%20")
