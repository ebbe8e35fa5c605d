"""The data set's stages in order; each reads files, writes files, and is skipped while its inputs are the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset import plots
from pipeline.dataset.composition import Composition, compose, total
from pipeline.dataset.copying import place, placed
from pipeline.dataset.demo import make_demo
from pipeline.dataset.dominance import dominant_of_groups, rank_species
from pipeline.dataset.duplicates import SIDE, duplicate_groups
from pipeline.dataset.formats.folder import Photo, folders, scan
from pipeline.dataset.manifest import read_manifest, write_manifest
from pipeline.dataset.matching import match
from pipeline.dataset.sources.species_list import read_species_list
from pipeline.dataset.splitting import SPLITS, leaks, split
from pipeline.dataset.verify import verify
from pipeline.errors import ConfigError, DataError
from pipeline.files import Stamp, listing_digest, read_json, replacing, run_once, safe_name, sha256, write_json
from pipeline.labels import OTHER, LabelSpace


@dataclass(frozen=True)
class Stage:
    """inputs: all that the result depends on; outputs: files in the data set's folder; run returns a summary line;
    intact: whether what it wrote elsewhere still stands."""

    name: str
    inputs: Callable[[Config], Mapping[str, Any]]
    outputs: Callable[[Config], list[str]]
    run: Callable[[Config], str]
    intact: Callable[[Config], bool] = lambda config: True


def run_stages(config: Config, until: str | None = None, only: str | None = None) -> int:
    """Run the stages in order; returns how many photos could not be used."""
    names = [stage.name for stage in STAGES]
    for name in (until, only):
        if name is not None and name not in names:
            raise ConfigError(f"no stage {name}; stages: {', '.join(names)}")
    chosen = STAGES[: names.index(until) + 1] if until else STAGES
    if config.dataset.demo:
        demo = make_demo(config.paths.src_dataset.parent, config.seed)
        log.info("demo      %d drawn photos in %s", total(demo.composition), demo.photos)
    for stage in chosen:
        if only in (None, stage.name):
            _run_one(config, stage)
    verified = config.dataset_dir / "verified.parquet"
    return int((~pd.read_parquet(verified, columns=["ok"])["ok"]).sum()) if verified.is_file() else 0


def _run_one(config: Config, stage: Stage) -> None:
    folder = config.dataset_dir
    try:
        inputs = stage.inputs(config)
    except FileNotFoundError as error:
        raise DataError(
            f"{stage.name} needs {error.filename}, which is not there; "
            f"run the stages before it first (--until {stage.name})"
        ) from error
    stamp = Stamp(folder / ".stamps" / f"{stage.name}.json", inputs, [folder / f for f in stage.outputs(config)])
    again = config.global_.overwrite or not stage.intact(config)
    run_once(f"{stage.name:9}", stamp, again, lambda: log.info("%-9s %s", stage.name, stage.run(config)))


# analyse: which species the photos have, and how many of each -------------------------------------------------------


def _name(path: Path) -> str:
    name = safe_name(path.resolve().name)
    return "photos" if name == "species" else name  # species_composition.json is a file of the label stage


def _all_photos(config: Config) -> tuple[dict[str, list[str]], list[Photo], list[str]]:
    species = folders(config.paths.src_dataset, config.global_.included_classes)
    photos, others = scan(config.paths.src_dataset, species)
    return species, photos, others


def _digest(root: Path, photos: list[Photo]) -> str:
    return listing_digest(root, [root / photo.path for photo in photos])


def _analyse_inputs(config: Config) -> dict[str, Any]:
    species, photos, _ = _all_photos(config)
    return {"species": species, "photos": _digest(config.paths.src_dataset, photos)}


def _analyse_outputs(config: Config) -> list[str]:
    name = _name(config.paths.src_dataset)
    return [f"{name}_species.json", f"{name}_composition.json"]


def _analyse(config: Config) -> str:
    species, photos, others = _all_photos(config)
    if not photos:
        raise DataError(f"no photos below {config.paths.src_dataset}; expected <group>/<species>/<photo>.jpg")
    for path, data in zip(_analyse_outputs(config), (species, compose(photos, species)), strict=True):
        write_json(config.dataset_dir / path, data)
    ignored = f"; {len(others)} other files ignored, e.g. {others[0]}" if others else ""
    return f"{len(photos)} photos of {sum(map(len, species.values()))} species in {len(species)} groups{ignored}"


# match: which of them live in the region ----------------------------------------------------------------------------


def _match_outputs(config: Config) -> list[str]:
    names = f"{_name(config.paths.src_dataset)}_{_name(config.paths.dst_dataset)}"
    return [f"matched_species_{names}.json", "match_report.json"]


def _match_inputs(config: Config) -> dict[str, Any]:
    listed = config.paths.web_crawl_output_json
    return {
        "photos": sha256(config.dataset_dir / _analyse_outputs(config)[1]),
        "list": sha256(listed) if listed and listed.is_file() else str(listed),
    }


def _match(config: Config) -> str:
    composition: Composition = read_json(config.dataset_dir / _analyse_outputs(config)[1], "composition")
    photos = {group: list(counts) for group, counts in composition.items()}
    listed = config.paths.web_crawl_output_json
    region = read_species_list(listed, photos) if listed else photos
    result = match(photos, region)
    write_json(config.dataset_dir / _match_outputs(config)[0], result.matched)
    write_json(
        config.dataset_dir / _match_outputs(config)[1],
        {"only_in_photos": result.only_photos, "only_in_region": result.only_region},
    )
    if not listed:
        return f"no species list given: all {result.total} species"
    sizes = [sum(map(len, names.values())) for names in (photos, region)]
    return f"{result.total} species of {sizes[0]} with photos and {sizes[1]} listed"


def _matched_photos(config: Config) -> list[Photo]:
    """Photos of the matched species as src_dataset has them; what else lies in dst_dataset is no part of the data set."""
    matched = read_json(config.dataset_dir / _match_outputs(config)[0], "matched species list (stage match)")
    return scan(config.paths.src_dataset, matched)[0]


# copy, verify -------------------------------------------------------------------------------------------------------


def _copy_inputs(config: Config) -> dict[str, Any]:
    photos = _digest(config.paths.src_dataset, _matched_photos(config))
    return {"from": photos, "to": str(config.paths.dst_dataset), "mode": config.dataset.copy_mode}


def _copied(config: Config) -> bool:
    src, dst, mode = config.paths.src_dataset, config.paths.dst_dataset, config.dataset.copy_mode
    return all(placed(src / photo.path, dst / photo.path, mode) for photo in _matched_photos(config))


def _copy(config: Config) -> str:
    photos = _matched_photos(config)
    if not photos:
        raise DataError(f"the matched species have no photos below {config.paths.src_dataset}; see match_report.json")
    counts = place(photos, config.paths.src_dataset, config.paths.dst_dataset, config.dataset.copy_mode)
    return ", ".join(f"{n} {what}" for what, n in sorted(counts.items())) + f" in {config.paths.dst_dataset}"


def _verify_inputs(config: Config) -> dict[str, Any]:
    return {"photos": _digest(config.paths.dst_dataset, _matched_photos(config))}


def _verify(config: Config) -> str:
    root = config.paths.dst_dataset
    table = verify(root, _matched_photos(config), config.dataset.workers)
    if not table["ok"].any():
        first = f"{table['image_path'].iloc[0]} {table['reason'].iloc[0]}"
        raise DataError(f"none of the {len(table)} photos below {root} can be read, e.g. {first}")
    with replacing(config.dataset_dir / "verified.parquet") as temporary:
        table.to_parquet(temporary, index=False)
    bad = table[~table["ok"]]
    for row in bad.head(10).itertuples():
        log.warning("  bad photo %s: %s", row.image_path, row.reason)
    return f"{len(table) - len(bad)} photos are readable, {len(bad)} are not"


# split, label, manifest ---------------------------------------------------------------------------------------------


def _split_inputs(config: Config) -> dict[str, Any]:
    part = config.train_val_split
    return {
        "photos": sha256(config.dataset_dir / "verified.parquet"),
        "shares": [part.val_share, part.test_share],
        "seed": config.seed,
        "near_duplicates": config.dataset.near_duplicates,
    }


def _split(config: Config) -> str:
    table = pd.read_parquet(config.dataset_dir / "verified.parquet")
    table["duplicate_group"] = _duplicates(table, config.dataset.near_duplicates)
    part = config.train_val_split
    table["split"] = split(table, part.val_share, part.test_share, config.seed)
    if straddling := leaks(table):
        raise AssertionError(f"{straddling} groups of look-alikes straddle splits")
    with replacing(config.dataset_dir / "split.parquet") as temporary:
        table.drop(columns="thumbnail").to_parquet(temporary, index=False)
    good = table[table["ok"]]
    twins = len(good) - good["duplicate_group"].nunique()
    sizes = ", ".join(f"{name} {n}" for name in SPLITS if (n := int((table["split"] == name).sum())))
    return f"{sizes}; {twins} photos look like another one and stay in its split"


def _duplicates(table: pd.DataFrame, near: bool) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Group of each photo, -1 for bad ones; equal files share one, and with `near` look-alikes too."""
    groups = np.full(len(table), -1, dtype=np.int64)
    good = table[table["ok"]]
    equal = pd.factorize(good["sha256"])[0]
    if near:
        flat = np.frombuffer(b"".join(good["thumbnail"][~good["sha256"].duplicated()]), np.uint8)
        equal = duplicate_groups(flat.reshape(-1, SIDE, SIDE))[equal]
    groups[table["ok"]] = equal
    return groups


def _label_inputs(config: Config) -> dict[str, Any]:
    threshold = config.train_val_split.dominant_threshold
    return {"photos": sha256(config.dataset_dir / "split.parquet"), "threshold": threshold}


_LABEL_FILES = ["dataset_species_labels.json", "species_composition.json", "class_counts_sorted.json"]


def _label(config: Config) -> str:
    threshold = config.train_val_split.dominant_threshold
    rows = pd.read_parquet(config.dataset_dir / "split.parquet")
    good = rows.loc[rows["ok"], ["image_path", "group", "species"]]
    composition = compose(Photo(*row) for row in good.itertuples(index=False))
    names = [name for counts in composition.values() for name in counts]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(
            f"{sorted(twice)} stand in more than one group; labels are joined by name, so keep one folder of each"
        )
    if OTHER in names:
        raise DataError(
            f"a species folder is called {OTHER!r}, the label of all that is not dominant; rename the folder"
        )
    labels = _labels(composition, threshold)
    counts = {name: n for members in composition.values() for name, n in members.items()}
    shown = {name: counts.get(name, 0) for name in labels.names}
    if labels.has_other:
        shown[OTHER] = total(composition) - sum(shown.values())
    ranked = rank_species(composition, threshold)[0]
    ranks = [{"class_name": name, "sample_count": counts[name], "rank": i} for i, name in enumerate(ranked, 1)]
    data = [{str(i): name for i, name in enumerate(labels.names)}, shown, {"class_counts_sorted": ranks}]
    for file, content in zip(_LABEL_FILES, data, strict=True):
        write_json(config.dataset_dir / file, content)
    if not labels.has_other:
        return f"every one of the {len(labels)} species is its own label"
    share = 1 - shown[OTHER] / total(composition)
    rest = len(names) - len(labels) + 1
    return f"{len(labels) - 1} dominant species hold {share:.1%} of the photos, the other {rest} are {OTHER!r}"


def _labels(composition: Composition, threshold: float) -> LabelSpace:
    """Rule B7: dominant species by group, then by name, then "Other"; a threshold of 1 makes every species a label."""
    if threshold == 1:
        return LabelSpace(tuple(name for counts in composition.values() for name in counts))
    dominant = dominant_of_groups(composition, threshold)
    return LabelSpace((*(name for group in sorted(dominant) for name in sorted(dominant[group])), OTHER))


_MANIFEST_FILES = [f"{name}.parquet" for name in ("dataset_manifest", *SPLITS)]


def _manifest_inputs(config: Config) -> dict[str, Any]:
    return {
        "rows": sha256(config.dataset_dir / "split.parquet"),
        "labels": sha256(config.dataset_dir / _LABEL_FILES[0]),
        "seed": config.seed,
    }


def _manifest(config: Config) -> str:
    rows = pd.read_parquet(config.dataset_dir / "split.parquet")
    labels = LabelSpace(tuple(read_json(config.dataset_dir / _LABEL_FILES[0], "label map").values()))
    rows["label_id"] = labels.ids(rows["species"].tolist()) if labels.has_other else _exact(labels, rows)
    write_manifest(config.dataset_dir, rows, labels, config.seed)
    path = config.dataset_dir / _MANIFEST_FILES[0]
    return f"{len(rows)} rows, {len(labels)} labels ({labels.hash}) in {path}"


def _exact(labels: LabelSpace, rows: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
    ids = np.full(len(rows), -1, dtype=np.int64)  # a species all of whose photos are bad has no label
    ids[rows["ok"]] = labels.ids(rows.loc[rows["ok"], "species"].tolist())
    return ids


# plots --------------------------------------------------------------------------------------------------------------


def _plot_inputs(config: Config) -> dict[str, Any]:
    return {"manifest": sha256(config.dataset_dir / _MANIFEST_FILES[0])}


def _plot_files(config: Config) -> list[str]:
    groups = [safe_name(group) for group in config.global_.included_classes]
    kinds = ["bar", "cumulative"]
    return [f"plots/{group}_{kind}.png" for group in groups for kind in kinds] + ["plots/splits.png"]


def _plots(config: Config) -> str:
    manifest = read_manifest(config.dataset_dir, config.paths.dst_dataset)
    composition = manifest.composition()
    folder = config.dataset_dir / "plots"
    for group in config.global_.included_classes:
        counts = composition.get(group, {})
        plots.bars(counts, f"{group}: photos per species", folder / f"{safe_name(group)}_bar.png")
        plots.cumulative(counts, f"{group}: cumulative share of photos", folder / f"{safe_name(group)}_cumulative.png")
    plots.splits(manifest.rows, folder / "splits.png")
    return f"{len(_plot_files(config))} pictures in {folder}"


STAGES = [
    Stage("analyse", _analyse_inputs, _analyse_outputs, _analyse),
    Stage("match", _match_inputs, _match_outputs, _match),
    Stage("copy", _copy_inputs, lambda config: [], _copy, _copied),
    Stage("verify", _verify_inputs, lambda config: ["verified.parquet"], _verify),
    Stage("split", _split_inputs, lambda config: ["split.parquet"], _split),
    Stage("label", _label_inputs, lambda config: _LABEL_FILES, _label),
    Stage("manifest", _manifest_inputs, lambda config: _MANIFEST_FILES, _manifest),
    Stage("plots", _plot_inputs, _plot_files, _plots),
]
