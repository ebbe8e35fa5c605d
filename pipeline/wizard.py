"""The configuration wizard: asks for the settings of a new region, checks each answer, writes a commented file."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pipeline.config import Config
from pipeline.console import log
from pipeline.errors import ConfigError
from pipeline.files import replacing

WIDTH = 160  # of a line of the file
KEYS = (
    "global.included_classes", "global.verbose", "global.overwrite",
    "paths.src_dataset", "paths.dst_dataset", "paths.output_dir", "paths.web_crawl_output_json",
    "region.contact", "region.source",
    "web_crawl.total_pages", "web_crawl.base_url", "web_crawl.delay_between_requests",
    "train_val_split.train_size", "train_val_split.random_state", "train_val_split.dominant_threshold",
)  # fmt: skip


def create_config(
    start: Config,
    path: Path,
    ask: Callable[[str], str] | None,
    overwrite: bool = False,
    overrides: Sequence[str] = (),
) -> Config:
    """Write a configuration to `path`; returns it. Its values are those of `start`, but for the answers and for what is
    of one region alone.

    ask: shows a prompt and returns the line that was typed; None takes every default. The experiment's name is the
    file's. A file that is there is an error unless overwrite; nothing is written when the questions are broken off.
    overrides: KEY=VALUE that `start` was given; these stay.
    """
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} is there already; give another name, or --overwrite to replace it")
    config = _of_another_region(start, path.stem, overrides)
    with replacing(path) as temporary:  # before the questions, so that a folder that is read-only is told first
        if ask:
            for key in KEYS:
                config = _asked(config, key, ask)
        temporary.write_text(commented(config), encoding="utf-8")
    if not config.paths.src_dataset.is_dir():
        log.warning("note: paths.src_dataset %s is not there yet", config.paths.src_dataset)
    log.info("wrote %s; next: dataset_orchestrator.py --config %s", path, path)
    return config


def _of_another_region(start: Config, name: str, overrides: Sequence[str]) -> Config:
    """Without the folder, the species list and the address of the region that `start` is for, unless they were given."""
    data = start.dump() | {"experiment": ""}
    given = [one.partition("=")[0] for one in overrides]
    own = {
        "paths.dst_dataset": str(start.paths.dst_dataset.parent / name),
        "paths.web_crawl_output_json": None,
        "web_crawl.base_url": "",
    }
    for key, value in own.items():
        section, field = key.split(".")
        if key not in given and section not in given:
            data[section][field] = value
    return Config.model_validate(data)


def _asked(config: Config, key: str, ask: Callable[[str], str]) -> Config:
    """The configuration with the answer to one question, asked until it is valid."""
    section, name = key.split(".")
    data = config.dump()
    field = _fields(_fields(Config)[section].annotation)[name]
    help_text = f"{key} ({field.description})" if field.description else key
    while True:
        try:
            line = ask(f"{help_text} [{_shown(data[section][name])}]: ").strip()
        except EOFError as error:
            raise ConfigError("the answers ended before the last question; --yes takes every default") from error
        if not line:
            return config
        try:
            return Config.model_validate({**data, section: {**data[section], name: _read(line, data[section][name])}})
        except ValidationError as error:
            said = "; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors())
            print(f"  {line!r} cannot be {key}: {said}")


def _read(line: str, default: Any) -> Any:
    """A typed line as the schema takes it: lists have commas, "none" is none, ~ is the home folder."""
    if isinstance(default, list):
        return [part.strip() for part in line.split(",") if part.strip()]
    return None if line.lower() in ("none", "null") else os.path.expanduser(line)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def commented(section: BaseModel, indent: str = "") -> str:
    """A section as YAML with every key, its help text behind it, or above it where both are too long for a line."""
    lines = []
    data = section.model_dump(mode="json", by_alias=True)
    for (name, field), attribute in zip(_fields(type(section)).items(), type(section).model_fields, strict=True):
        value = getattr(section, attribute)
        if isinstance(value, BaseModel):
            lines += [f"{indent}{name}:", commented(value, indent + "  ")]
            continue
        flow = yaml.safe_dump(data[name], default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False)
        line = f"{indent}{name}: {flow.removesuffix(chr(10)).removesuffix('...').strip()}"
        help_text = field.description or ""
        together = f"{line:<46}  # {help_text}" if help_text else line
        above = [f"{indent}# {part}" for part in textwrap.wrap(help_text, WIDTH - 20)]
        lines += [together] if len(together) <= WIDTH else [*above, line]
    return "\n".join(lines) + ("" if indent else "\n")


def _fields(section: Any) -> dict[str, FieldInfo]:
    """Fields of a section under the users' names."""
    return {field.alias or name: field for name, field in section.model_fields.items()}
