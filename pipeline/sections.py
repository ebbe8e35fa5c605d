"""The sections of a configuration: the types are the schema, with a help text beside each field.

The sections of training, pruning and the region are in sections_training.py, sections_pruning.py and sections_region.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_no_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[info.field_name or ""].annotation
        kinds = get_args(annotation) or (annotation,)
        if isinstance(value, bool) and bool not in kinds and (int in kinds or float in kinds):
            raise ValueError("must be a number")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _an_empty_section_is_its_defaults(cls, value: Any, info: ValidationInfo) -> Any:
        """So is an empty mapping: nothing stands behind its key."""
        field = cls.model_fields[info.field_name or ""]
        kind = field.annotation
        keyed = get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, Section))
        return field.get_default(call_default_factory=True) if keyed and value is None else value


class Global(Section):
    included_classes: list[str] = Field(["Aves", "Insecta"], min_length=1, description="groups to use: folder names")
    verbose: bool = Field(False, description="more log lines, and tracebacks")
    overwrite: bool = Field(False, description="redo finished stages")
    log_dir: Path | None = Field(
        None, description="folder for a log file per run, log_<date>_<time>.txt; none: no file"
    )

    @field_validator("included_classes")
    @classmethod
    def _are_folder_names(cls, names: list[str]) -> list[str]:
        for name in names:
            if name in ("", ".", "..") or "/" in name or "\\" in name:
                raise ValueError(f"{name!r} is no folder name; groups are the folders in paths.src_dataset")
        return names


class Paths(Section):
    src_dataset: Path = Field(Path("data/train_val_images"), description="photos as <group>/<species>/<photo>")
    dst_dataset: Path = Field(Path("data/haute_garonne"), description="where the regional data set is built")
    output_dir: Path = Field(Path("output"), description="manifests, predictions, reports: output_dir/<experiment>")
    models_dir: Path = Field(Path("models"), description="model folders: models_dir/<experiment>/<name>")
    dataset_dir: Path | None = Field(None, description="where the manifest is; none: output_dir/<experiment>/dataset")
    web_crawl_output_json: Path | None = Field(
        None, description="the region's species list {group: [species]}; none takes every species of src_dataset"
    )


class WebCrawl(Section):
    total_pages: int = Field(104, gt=0, description="upper limit; the crawl ends by itself after the last page")
    base_url: str = Field(
        "https://www.inaturalist.org/check_lists/32961-Haute-Garonne-Check-List?page=",
        pattern="^(https?://|$)",
        description="address of a check list of iNaturalist, up to the page's number; for region.source check_list",
    )
    delay_between_requests: float = Field(1.0, gt=0, description="seconds, to any server of a region's source")


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


class Export(Section):
    batch: Literal["dynamic", 1] = Field(
        "dynamic", description="batch size of the graph; 1: fixed, as some compilers need"
    )
    formats: list[Literal["torchscript", "triton"]] = Field([], description="also written beside model.onnx")


class Quantize(Section):
    kind: Literal["static", "dynamic"] = Field(
        "static", description="dynamic: ranges are computed at run time for each photo"
    )
    format: Literal["qdq", "qoperator"] = Field(
        "qdq", description="onnxruntime's representation of a static int8 graph"
    )
    calibration_images: int = Field(256, ge=16, description="seeded sample of train, balanced over species")
    method: Literal["minmax", "entropy", "percentile"] = "minmax"
    percentile: float = Field(99.999, gt=50, le=100, description="share of the values kept by method percentile")
    per_channel: bool = Field(True, description="one weight scale per channel, else one per layer")
    activations: Literal["u8", "s8"] = Field(
        "u8", description="type of activations; with s8, x86 runs some layers in float"
    )
    refine: bool = Field(
        True, description="rounding that keeps each kernel's sum, and bias correction of int8's mean error"
    )
    max_drop: float = Field(
        0.005,
        ge=0,
        le=1,
        description="largest loss of val accuracy; beyond it the worst layers stay in float; 1: no layer does",
    )
    parity_images: int = Field(64, gt=0, description="val photos on which torch and ONNX must agree")
    parity_tolerance: float = Field(1e-3, gt=0, description="largest |logit difference| allowed")


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
