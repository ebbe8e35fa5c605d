"""The sections `route`, `monte_carlo` and `report`: how the cascade routes, what is simulated, and what the report draws."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.sections.common import Section


class Route(Section):
    precision: Literal["fp32", "int8"] = Field("int8", description="which exported models the cascade runs")
    stages: list[Annotated[str, Field(pattern=r"^[\w][\w. -]*$")]] = Field(
        [], description="model folders in order; empty: caches of cache.start_ranks, then main"
    )
    reference: str = Field(
        "",
        pattern=r"^([\w][\w. -]*)?$",
        description="auto: model folder that max_drop is measured against; empty: the last stage",
    )
    rule: Literal["confidence", "margin", "calibrated", "deferral"] = Field(
        "confidence", description="score of a cache; the last two are fitted on a share of val (learn_share)"
    )
    threshold: float | Literal["auto"] = Field(
        "auto", description="lowest score at which a cache answers; auto: chosen on val"
    )
    max_drop: float = Field(0.005, ge=0, lt=1, description="auto: largest loss of accuracy of the cascade against main")
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="auto: confidence with which max_drop holds for new photos"
    )
    max_communication: float | None = Field(
        None, gt=0, lt=1, description="auto: largest share that may reach main; of these thresholds, the most accurate"
    )
    max_ms: float | None = Field(None, gt=0, description="auto: largest mean ms per photo on this machine, likewise")
    learn_share: float = Field(
        0.0, ge=0, lt=1, description="share of val for fitting rules and designs; the rest tests the promise"
    )
    own_thresholds: bool = Field(
        False, description="auto: a threshold per cache, fitted on learn_share; false: one for all"
    )

    @model_validator(mode="after")
    def _is_a_probability(self) -> Route:
        if self.threshold != "auto" and not 0 <= self.threshold <= 1:
            raise ValueError("threshold must be auto or lie in [0, 1]")
        return self

    @model_validator(mode="after")
    def _learns_from_something(self) -> Route:
        if self.rule in ("calibrated", "deferral") and not self.learn_share:
            raise ValueError(f"rule {self.rule} learns from a share of val; set learn_share, e.g. 0.3")
        if self.own_thresholds and not self.learn_share:
            raise ValueError("own_thresholds are learnt from a share of val; set learn_share, e.g. 0.3")
        return self

    @model_validator(mode="after")
    def _asks_each_stage_once(self) -> Route:
        if len(set(self.stages)) < len(self.stages) or "main" in self.stages[:-1]:
            raise ValueError("stages must name each model once, main last")
        return self


class MonteCarlo(Section):
    runs: int = Field(1000, gt=0)
    samples: int = Field(1000, gt=0, description="photos per run")
    split: Literal["test", "val", "train"] = Field(
        "test", description="split that photos are drawn from; train flatters"
    )
    replacement: bool = Field(True, description="a photo may be drawn twice in a run")
    every_species: bool = Field(False, description="one photo of each species first, as the predecessors drew")
    mix: Literal["photos", "uniform", "observed", "month"] = Field(
        "photos", description="where the shares of the species come from"
    )
    observed: Path | None = Field(
        None,
        description="mix observed: JSON {species: observations in the region} or the data set's matched_observations.json",
    )
    dates: Path | None = Field(
        None, description="mix month: CSV or Parquet of image_path, date (ISO 8601); none: the manifest's"
    )
    month: int | None = Field(None, ge=1, le=12, description="mix month: 1 to 12")
    dirichlet: float = Field(
        0.0, ge=0, description="concentration of a Dirichlet around the mix; smaller values vary more; 0: off"
    )
    missing: list[str] = Field([], description="species absent from the simulated days")
    dominant: dict[str, float] = Field(
        {}, description="species that hold this share of a run, e.g. {Apis mellifera: 0.8}"
    )
    storage_mb: float = Field(1024.0, gt=0, description="storage of a device for the photos that it sends on")
    photo_kb: float | None = Field(None, gt=0, description="size of a stored photo; none: mean size of the files")

    @model_validator(mode="after")
    def _has_what_the_mix_needs(self) -> MonteCarlo:
        if self.mix == "observed" and not self.observed:
            raise ValueError("mix observed needs monte_carlo.observed, a JSON file {species: observations}")
        if self.mix == "month" and not self.month:
            raise ValueError("mix month needs monte_carlo.month, 1 to 12")
        shares = self.dominant.values()
        if any(not 0 < share < 1 for share in shares) or sum(shares) > 1 or set(self.dominant) & set(self.missing):
            raise ValueError("dominant holds shares in (0, 1) of at most 1 together, of species that are not missing")
        return self


class Report(Section):
    curves: list[str] = Field(
        [],
        max_length=7,
        description="species whose precision-recall and ROC curves are named; empty: the five of least average precision",
    )
