"""The configuration: read, check, explain errors; its sections are in sections/.

Precedence: default < YAML < `--set section.key=value`. An unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from pipeline.errors import ConfigError, did_you_mean
from pipeline.files import safe_name, write_text
from pipeline.sections.common import Global, Paths, Section
from pipeline.sections.compression import Export, Prune, Quantize
from pipeline.sections.dataset import Dataset, Labels, Split, TestSets
from pipeline.sections.evaluation import MonteCarlo, Report, Route
from pipeline.sections.region import Region, WebCrawl
from pipeline.sections.training import Cache, Main


class Config(Section):
    experiment: str = Field("", description="names models/<experiment> and output/<experiment>; empty: the file's name")
    global_: Global = Field(Global(), alias="global")
    paths: Paths = Paths()
    web_crawl: WebCrawl = WebCrawl()
    region: Region = Region()
    train_val_split: Split = Split()
    dataset: Dataset = Dataset()
    test_sets: TestSets = TestSets()
    labels: Labels = Labels()
    main: Main = Main()
    cache: Cache = Cache()
    prune: Prune = Prune()
    export: Export = Export()
    quantize: Quantize = Quantize()
    route: Route = Route()
    monte_carlo: MonteCarlo = MonteCarlo()
    report: Report = Report()
    sweep: dict[str, list[Any]] = Field(
        default_factory=dict, description="for train_multiple.py: {key: values}, every combination is an experiment"
    )

    @model_validator(mode="after")
    def _decodes_once(self) -> Config:
        if self.main.recipe.decode_side != self.cache.recipe.decode_side:
            raise ValueError("main.recipe.decode_side and cache.recipe.decode_side must agree: a photo is decoded once")
        return self

    @property
    def output(self) -> Path:
        return self.paths.output_dir / self.experiment

    @property
    def models(self) -> Path:
        return self.paths.models_dir / self.experiment

    @property
    def dataset_dir(self) -> Path:
        return self.paths.dataset_dir or self.output / "dataset"

    @property
    def seed(self) -> int:
        return self.train_val_split.random_state

    @property
    def cache_threshold(self) -> float:
        return self.cache.threshold or self.train_val_split.dominant_threshold

    def cache_name(self, start_rank: int) -> str:
        """Name of a cache's model folder."""
        window = f"top{self.cache.species}" if self.cache.species else f"{self.cache_threshold:g}"
        return f"cache_{window}_{start_rank}"

    def dump(self) -> dict[str, Any]:
        """Plain JSON types under the users' keys."""
        return self.model_dump(mode="json", by_alias=True)


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply `section.key=value` overrides, check all of it; ConfigError says what and where."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text) or {}
    except FileNotFoundError as error:
        raise ConfigError(f"no configuration at {path}; --config takes a YAML file, e.g. configs/demo.yaml") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold sections (global:, paths:, ...), not a {type(data).__name__}")
    for override in overrides:
        _apply(data, override)
    if not data.get("experiment"):
        data["experiment"] = path.stem
    data["experiment"] = safe_name(str(data["experiment"]))
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        given = [override.partition("=")[0].strip() for override in overrides]
        raise ConfigError(_explain(path, node, given, error)) from error


def override(config: Config, changes: Mapping[str, Any]) -> Config:
    """The configuration with new values for these keys ("section.key"), checked."""
    data = config.dump()
    for key, value in changes.items():
        _put(data, key, value)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explain(Path(config.experiment), None, [], error)) from error


def save_config(config: Config, path: Path) -> None:
    """Write the resolved configuration; loading it gives the same value."""
    write_text(path, yaml.safe_dump(config.dump(), sort_keys=False, allow_unicode=True))


def _apply(data: dict[str, Any], given: str) -> None:
    key, equals, text = given.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set takes section.key=value, not {given!r}")
    try:
        _put(data, key.strip(), yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {given}: the value is not YAML") from error


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = data.setdefault(section, {})
        if inner is None:
            inner = data[section] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"{key}: {section} is a value, not a section")
        data = inner
    data[last] = value


def _explain(path: Path, node: yaml.Node | None, given: list[str], error: ValidationError) -> str:
    """One sentence per wrong key; `given` holds the keys of --set."""
    found: dict[str, list[str]] = {}
    for one in error.errors():
        location, known = _locate([str(part) for part in one["loc"]])
        where = ".".join(location)
        line = _line(node, location)
        by_hand = any(where == key or where.startswith(f"{key}.") for key in given)
        place = "--set" if by_hand or (given and not line) else f"{path}, line {line}" if line else str(path)
        if one["type"] == "extra_forbidden":
            hint = did_you_mean(location[-1], known, f"known keys: {', '.join(known)}")
            found[f"{place}: unknown key {where}; {hint}"] = []
        else:
            said = one["msg"].removeprefix("Value error, ")
            found.setdefault(f"{place}: {where} (is {one.get('input')!r}): ", []).append(said)
    return "; ".join(where + ", or ".join(said) for where, said in found.items())


def _locate(location: list[str]) -> tuple[list[str], list[str]]:
    """The keys of an error's location, without pydantic's names of union members, and the last section's known keys."""
    section: Any = Config
    known: list[str] = []
    for depth, part in enumerate(location):
        if not hasattr(section, "model_fields"):
            return location[:depth], known
        fields = {field.alias or name: field for name, field in section.model_fields.items()}
        known = list(fields)
        section = fields[part].annotation if part in fields else None
    return location, known


def _line(node: yaml.Node | None, location: list[str]) -> int | None:
    line = None
    for part in location:
        if not isinstance(node, yaml.MappingNode):
            break
        found = [(key, value) for key, value in node.value if key.value == part]
        if not found:
            break
        line, node = found[0][0].start_mark.line + 1, found[0][1]
    return line
