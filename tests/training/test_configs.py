"""Every shipped configuration trains: its own networks and recipe, for an epoch of the coloured photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import Config, load_config, override
from pipeline.models.checkpoint import read_card
from pipeline.training.run import train_role

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted([*ROOT.glob("configs/*.yaml"), ROOT / "config.yaml"])
LARGE = {"convnext_large": "convnext_atto", "convnext_tiny": "convnext_atto"}  # the same family, in a test's time


@pytest.mark.parametrize("path", SHIPPED, ids=[path.stem for path in SHIPPED])
def test_shipped_configuration_trains(path: Path, toy: Callable[..., Config]) -> None:
    shipped, place = load_config(path), toy(f"experiment={path.stem}")
    changes = {
        f"paths.{key}": str(value) for key, value in place.paths if key not in ("web_crawl_output_json", "dataset_dir")
    }
    changes |= {"experiment": path.stem, "train_val_split": place.train_val_split.model_dump()}
    for role, settings in (("main", shipped.main), ("cache", shipped.cache)):
        quick = {
            "epochs": 1,
            "warmup_epochs": 0,
            "workers": 0,
            "pretrained": False,
            "recipe.size": 32,
            "batch_size": 13,
        }
        quick["model"] = LARGE.get(settings.model, settings.model)
        changes |= {f"{role}.{key}": value for key, value in quick.items()}
    config = override(shipped, {**changes, "cache.start_ranks": [0], "cache.windows": 0})
    for role in ("main", "cache"):
        (folder,) = train_role(config, role)
        card = read_card(folder)
        assert card.training["finished"]
        assert card.metrics["val_loss"] > 0
