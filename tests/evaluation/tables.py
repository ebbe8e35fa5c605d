"""Stored predictions out of thin air."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from toy import card

from pipeline.evaluation.predict import Predictions


def table(
    species: Sequence[str], logits: NDArray[np.floating], labels: Sequence[str], name: str = "main", split: str = "val"
) -> Predictions:
    """Predictions of one model; one row per true species."""
    rows = pd.DataFrame({"image_path": [f"{i}.png" for i in range(len(species))], "species": list(species)})
    rows = rows.assign(split=split, decode_ms=2.0, preprocess_ms=1.0, infer_ms=5.0, reason="")
    return Predictions(rows, np.asarray(logits, np.float32), card(labels, name), "0123")


def pair(seed: int, n: int = 600, skill: float = 2.0, caches: int = 1) -> list[Predictions]:
    """`caches` caches of two of six species each, and main; a cache of little skill errs more often than main."""
    rng = np.random.default_rng(seed)
    names = [f"s{i}" for i in range(6)]
    truth = rng.choice(6, n, p=[0.35, 0.25, 0.15, 0.1, 0.1, 0.05])
    species, tables = [names[i] for i in truth], []
    for k in range(caches):
        known = names[2 * k : 2 * k + 2]
        logits = rng.normal(0, 1, (n, 3))
        logits[np.arange(n), [known.index(name) if name in known else 2 for name in species]] += skill
        tables.append(table(species, logits * 1.5, [*known, "Other"], f"cache{k}"))
    main = rng.normal(0, 1, (n, 6))
    main[np.arange(n), truth] += 2.5
    return [*tables, table(species, main, names)]
