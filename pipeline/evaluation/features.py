"""What main sees as alike: its logits in two dimensions (PCA, t-SNE, UMAP) on a page that shows the photo of a point."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from pipeline.config import Config
from pipeline.console import log
from pipeline.evaluation.charts import COLOURS
from pipeline.evaluation.experiment import basis
from pipeline.evaluation.stress import seeded_part
from pipeline.evaluation.tables import judge
from pipeline.files import write_csv, write_text
from pipeline.pages import render, thumbnail

PERPLEXITY, NEIGHBOURS, MIN_DIST = 50, 30, 0.05
MAPS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


def features(config: Config, photos: int) -> pd.DataFrame:
    """Map `photos` seeded test photos; writes evaluation/features.csv and features.html. Colours: the commonest species."""
    tables, _ = seeded_part(config, photos)
    judged = judge(tables[-1])
    table = judged.rows[["image_path", "species"]].assign(answer=judged.names(judged.answers), right=judged.right)
    found = project(tables[-1].logits, config.seed)
    if "umap" not in found:
        log.info("features  no UMAP, which is one more package: pip install 'ommatidia[umap]'")
    for name, places in found.items():
        table[[f"{name}_x", f"{name}_y"]] = places
    write_csv(config.output / "evaluation" / "features.csv", table.assign(basis=basis(config)))
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


def project(logits: NDArray[np.float32], seed: int) -> dict[str, NDArray[np.float64]]:
    """PCA, t-SNE (van der Maaten & Hinton, JMLR 2008) and, where umap-learn is installed, UMAP (McInnes et al., 2018), each
    (photos, 2), scaled to [0, 1]. A logit's common shift, which no probability sees, is taken away first."""
    centred = logits.astype(np.float64) - logits.mean(axis=1, keepdims=True)
    near = min(PERPLEXITY, max(1.0, (len(logits) - 1) / 3))
    found = {
        "pca": PCA(2, random_state=seed).fit_transform(centred),
        "tsne": TSNE(2, perplexity=near, init="pca", random_state=seed).fit_transform(centred),
    }
    if find_spec("umap"):
        from umap import UMAP  # slow to import

        near = max(2, min(NEIGHBOURS, len(logits) - 1))
        umap = UMAP(near, min_dist=MIN_DIST, init="pca", random_state=seed, n_jobs=1)
        found["umap"] = umap.fit_transform(centred)
    return {name: (xy - xy.min(axis=0)) / np.maximum(np.ptp(xy, axis=0), 1e-12) for name, xy in found.items()}


def _points(table: pd.DataFrame, name: str, colour: dict[str, str]) -> list[dict[str, Any]]:
    columns = (table[column] for column in (f"{name}_x", f"{name}_y", "species", "right"))
    return [
        {"x": x, "y": y, "colour": colour.get(species, "#c8ccc8"), "right": right}
        for x, y, species, right in zip(*columns, strict=True)
    ]
