"""The sections `train_val_split`, `labels`, `dataset` and `test_sets`: which photos there are, their splits and their labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.sections.common import Section


class Split(Section):
    train_size: float = Field(0.8, gt=0, lt=1, description="share of the photos to train on")
    val_size: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="share of val, on which everything is chosen; none: half of what train leaves; 0: no val, so no training",
    )
    official: bool = Field(
        False,
        description="use the format's own split; where it has one held-out part, that is test, and val is drawn from train",
    )
    random_state: int = Field(42, ge=0, description="the seed of every random draw")
    dominant_threshold: float = Field(0.5, gt=0, le=1, description="share of the photos that the dominant species hold")

    @model_validator(mode="after")
    def _leaves_a_test_part(self) -> Split:
        if self.train_size + self.val_share >= 1:
            raise ValueError("train_size + val_size leave nothing to test on; lower one of them")
        return self

    @property
    def val_share(self) -> float:
        return self.val_size if self.val_size is not None else (1 - self.train_size) / 2

    @property
    def test_share(self) -> float:
        return 1 - self.train_size - self.val_share


class Labels(Section):
    """Which species are dominant, and which labels there are; the share is train_val_split.dominant_threshold."""

    mode: Literal["dominant", "full", "just_other", "binary"] = Field(
        "dominant",
        description="dominant species and Other | every species | only species that are not dominant | the two labels "
        "Dominant and Other, for all models",
    )
    scope: Literal["group", "merged"] = Field(
        "group", description="dominant_threshold is a share of each group, or of all photos"
    )
    ties: Literal["inclusive", "minimal"] = Field(
        "inclusive", description="species that tie with the last dominant one are dominant, too | are not"
    )
    weights: Path | None = Field(
        None,
        description="rank species by observations in the region: JSON {group: {species: n}} or parquet, with the names of "
        "the folders, e.g. matched_observations.json in the data set's folder; none: by photos",
    )


class Store(Section):
    """How photos are re-encoded (JPEG, upright, without EXIF); models trained on them need recipe.crop 1."""

    size: int = Field(0, ge=0, le=2048, description="side, px; 0: photos are not re-encoded")
    crop: float = Field(0.875, gt=0, le=1, description="central share that is kept")
    fit: Literal["squash", "square"] = Field("squash", description="squeeze the whole frame, or cut its central square")
    quality: int = Field(90, ge=1, le=95, description="JPEG quality")


class Dataset(Section):
    format: Literal["folder", "flat", "inat2017", "inat_json", "cub200", "nabirds", "table"] = Field(
        "folder",
        description="what src_dataset is: group/species/photo | class/photo | iNaturalist 2017 | 2018, 2019, 2021 (JSON "
        "beside photos or their tar) | CUB-200-2011 | NABirds | photos.csv with a row per photo; or an archive of it",
    )
    kingdom: str = Field("", description="inat_json: only this kingdom, e.g. Animalia; empty: all")
    categories: tuple[int, int] | None = Field(None, description="inat_json: only category ids from first to last")
    demo: bool = Field(False, description="draw the embedded demo set first: src_dataset must end in /photos")
    copy_mode: Literal["copy", "hardlink", "symlink", "reflink"] = Field(
        "hardlink", description="hardlink and reflink fall back to copying"
    )
    compare: Literal["time", "hash"] = Field(
        "time", description="a copy is up to date with the same size and modification time; hash: and the same SHA-256"
    )
    store: Store = Store()
    verify: bool = Field(
        True, description="false: photos are trusted, so not opened or hashed, and look-alikes are not found"
    )
    min_images: int = Field(0, ge=0, description="species with fewer readable photos are left out; 0: no limit")
    near_duplicates: bool = Field(True, description="keep look-alike photos (copies, flips, turns) in one split")
    examples: int = Field(4, ge=0, le=12, description="photos per species on the examples sheets; 0: no sheets")
    workers: int = Field(0, ge=0, description="processes for verifying and drawing; 0: one per core")


class TestSets(Section):
    """Test sets with a chosen imbalance, drawn from the test split; balanced: equally many photos per species."""

    sets: dict[str, list[float]] = Field(
        {"DI1": [0.8], "DI2": [0.4, 0.4], "DI3": [0.3, 0.3, 0.2]},
        description="shares of the first, second, ... window of ranks; the remaining species share the rest",
    )
    window: int = Field(13, gt=0, description="species per window of ranks")
    size: int = Field(1000, gt=0, description="photos per set; fewer where the test split has too few")
    export: bool = Field(False, description="also as folders of links: test_sets/<set>/<species>/")

    @field_validator("sets")
    @classmethod
    def _are_named_shares(cls, sets: dict[str, list[float]]) -> dict[str, list[float]]:
        for name, shares in sets.items():
            if not re.fullmatch(r"\w[\w.-]*", name) or name in ("balanced", "test"):
                raise ValueError(
                    f"{name!r} is no name for a set: letters, digits, _ . -, and neither balanced nor test"
                )
            if not shares or min(shares) <= 0 or sum(shares) > 1 + 1e-9:
                raise ValueError(f"the shares of {name} must be above 0 and sum to 1 at most")
        return sets
