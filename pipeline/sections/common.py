"""What every section is, and the sections that every stage reads: `global` and `paths`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator


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
