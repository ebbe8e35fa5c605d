"""Pictures are made, for few species and for many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.edge.rule import Rule
from pipeline.evaluation import plots
from pipeline.evaluation.predict import Predictions
from pipeline.evaluation.routing import route

from .tables import table


def experiment(species: int, n: int, skill: float = 2.5, dominant: int = 2) -> list[Predictions]:
    """Cache and main on a long tail of species with long names; a third of the photos are val."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, species + 1)
    truth = np.concatenate([np.arange(species), rng.choice(species, n - species, p=share / share.sum())])
    main = rng.normal(0, 1, (n, species))
    main[np.arange(n), truth] += skill
    cache = rng.normal(0, 1, (n, dominant + 1))
    cache[np.arange(n), np.minimum(truth, dominant)] += skill
    names = [f"Genus{i} longspeciesnamensis$ nº{i}" for i in range(species)]
    tables = [table([names[i] for i in truth], cache, [*names[:dominant], "Other"], "cache_0.5_0")]
    tables.append(table([names[i] for i in truth], main, names))
    for found in tables:
        found.rows["split"] = np.where(np.arange(n) % 3 == 1, "val", "test")
    return tables


@pytest.mark.parametrize(("species", "n"), [(3, 40), (150, 1500)])
def test_all_pictures_are_made(tmp_path: Path, species: int, n: int) -> None:
    tables = experiment(species, n, skill=2.5 if species < 100 else 3.5)
    chosen = [Rule(0.7), Rule()]
    plots.draw(tmp_path / "plots", tables, chosen, route([found.part("test") for found in tables], chosen))
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(plots.PICTURES)
    for path in (tmp_path / "plots").iterdir():
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert 400 < image.width < 2000
            assert 150 < image.height < 2000
            assert len(image.convert("RGB").getcolors(1 << 24) or []) > 10


def test_answers_of_no_species_are_drawn(tmp_path: Path) -> None:
    """No main model: what no cache knows is unknown, and so is a species that no stage knows."""
    tables = experiment(3, 40)[:1]
    plots.draw(tmp_path, tables, [Rule(0.9)], route([found.part("test") for found in tables], [Rule(0.9)]))
    assert len(list(tmp_path.iterdir())) == len(plots.PICTURES)


def test_the_same_tables_give_the_same_bytes(tmp_path: Path) -> None:
    tables = experiment(3, 40)
    rules = [None, Rule()]  # the cache is off
    for name in ("one", "two"):
        plots.draw(tmp_path / name, tables, rules, route([found.part("test") for found in tables], rules))
    for picture in plots.PICTURES:
        assert (tmp_path / "one" / picture).read_bytes() == (tmp_path / "two" / picture).read_bytes()
