"""Embedding of test photos by main's features in two dimensions (PCA, t-SNE, UMAP), as a page that shows each point's photo."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from pipeline.config import Config
from pipeline.console import log, progress
from pipeline.edge.errors import UnreadableImage
from pipeline.edge.recipe import Recipe, decode, preprocess
from pipeline.errors import DataError
from pipeline.evaluation.experiment import basis
from pipeline.evaluation.stress import seeded_part
from pipeline.evaluation.tables import judge
from pipeline.files import write_csv, write_parquet, write_text
from pipeline.models.checkpoint import load_model
from pipeline.models.deployable import Deployable
from pipeline.models.registry import head
from pipeline.pages import render, thumbnail
from pipeline.style import COLOURS

PERPLEXITY, NEIGHBOURS, MIN_DIST = 50, 30, 0.05
KEPT = 0.95
LEAST = 3  # photos of which a map of two dimensions tells something
MAPS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


def features(config: Config, photos: int) -> pd.DataFrame:
    """Map `photos` seeded test photos by the features of the fp32 network; answers are the stored ones. Colours: the
    commonest species. Writes features.html, evaluation/features.csv and, with the vectors, evaluation/features.parquet.
    """
    tables, _ = seeded_part(config, photos)
    judged = judge(tables[-1])
    if len(judged.rows) < LEAST:
        raise DataError(
            f"--features maps photos by how they differ, so it takes {LEAST} or more, not {len(judged.rows)}; give a larger "
            "number, and a test part that holds as many"
        )
    network, card = load_model(config.models / tables[-1].name)
    if card.weights_sha256 != tables[-1].card["weights_sha256"]:
        raise DataError(
            f"{card.name} was trained on after its export; run quantize.py and eval.py with this --config again"
        )
    files = [config.paths.dst_dataset / path for path in judged.rows["image_path"]]
    vectors = embed(Deployable(network, card.recipe), card.recipe, files)
    table = judged.rows[["image_path", "species"]].assign(answer=judged.names(judged.answers), right=judged.right)
    found = project(vectors, config.seed)
    if "umap" not in found:
        log.info("features  no UMAP, which is one more package: pip install 'ommatidia[umap]'")
    for name, places in found.items():
        table[[f"{name}_x", f"{name}_y"]] = places
    told, target = table.assign(basis=basis(config)), config.output / "evaluation" / "features.csv"
    write_parquet(target.with_suffix(".parquet"), told.assign(vector=list(vectors)))
    write_csv(target, told)
    common = table["species"].value_counts().index[: len(COLOURS)].tolist()
    colour = dict(zip(common, COLOURS, strict=False))
    page = render(
        Path(__file__).with_name("features.html.jinja"),
        experiment=config.experiment,
        photos=[thumbnail(config.paths.dst_dataset / path, 112) for path in table["image_path"]],
        texts=[row.species if row.right else f"{row.species}, taken for {row.answer}" for row in table.itertuples()],
        colours=colour,
        maps=[{"title": MAPS[name], "points": _points(table, name, colour)} for name in found],
    )
    write_text(config.output / "features.html", page)
    log.info("features  %d photos: %s", len(table), config.output / "features.html")
    return table


def embed(model: Deployable, recipe: Recipe, files: Sequence[Path]) -> NDArray[np.float32]:
    """The input of the network's classifier for each photo, (photos, features)."""
    found: list[NDArray[np.float32]] = []
    classifier = model.network.get_submodule(head(model.network)[0].removesuffix("."))
    watching = classifier.register_forward_pre_hook(lambda _, given: found.append(given[0].flatten().numpy()))
    with watching, torch.no_grad():
        for file in progress(files, len(files), "features"):
            try:
                pixels = preprocess(decode(file, recipe.decode_side), recipe)
            except UnreadableImage as error:
                raise DataError(f"{file}: {error}") from error
            model.eval()(torch.from_numpy(pixels.copy())[None])
    return np.stack(found)


def project(vectors: NDArray[np.float32], seed: int) -> dict[str, NDArray[np.float64]]:
    """PCA, t-SNE (van der Maaten & Hinton, JMLR 2008) and, where umap-learn is installed, UMAP (McInnes et al., 2018), each
    (photos, 2), scaled to [0, 1]. The last two see the principal components that hold KEPT of the variance."""
    pca = PCA(random_state=seed).fit(vectors.astype(np.float64))
    components = pca.transform(vectors)
    kept = components[:, : max(2, int(np.searchsorted(pca.explained_variance_ratio_.cumsum(), KEPT)) + 1)]
    near = min(PERPLEXITY, max(1.0, (len(vectors) - 1) / 3))
    found = {
        "pca": components[:, :2],
        "tsne": TSNE(2, perplexity=near, init="pca", random_state=seed).fit_transform(kept),
    }
    if find_spec("umap"):
        from umap import UMAP  # slow to import

        near = max(2, min(NEIGHBOURS, len(vectors) - 1))
        umap = UMAP(near, min_dist=MIN_DIST, init="pca", random_state=seed, n_jobs=1)
        found["umap"] = umap.fit_transform(kept)
    return {name: (xy - xy.min(axis=0)) / np.maximum(np.ptp(xy, axis=0), 1e-12) for name, xy in found.items()}


def _points(table: pd.DataFrame, name: str, colour: dict[str, str]) -> list[dict[str, Any]]:
    columns = (table[column] for column in (f"{name}_x", f"{name}_y", "species", "right"))
    return [
        {"x": x, "y": y, "colour": colour.get(species, "#c8ccc8"), "right": right}
        for x, y, species, right in zip(*columns, strict=True)
    ]
