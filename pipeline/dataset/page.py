"""A page of titled parts with tables and pictures, as self-contained HTML and as Markdown."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

MIME = {".png": "image/png", ".jpg": "image/jpeg"}
Row = Sequence[str | int | float]


@dataclass(frozen=True)
class Part:
    """One part of the page. pictures: (path, caption); folded: shown only when it is asked for."""

    title: str
    text: str = ""
    head: Row = ()
    rows: Sequence[Row] = ()
    pictures: Sequence[tuple[Path, str]] = ()
    folded: bool = False


def render(title: str, lead: str, parts: Sequence[Part], template: str, root: Path) -> str:
    """The page by one of the templates beside this file; `root` is the folder that the Markdown page stands in.

    Names from outside cannot become markup: HTML is escaped, and Markdown's own characters are too.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=template.endswith(".html.jinja"),
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"md": _markdown, "cell": _cell, "embedded": _embedded, "below": lambda p: _below(p, root)}
    return environment.get_template(template).render(title=title, lead=lead, parts=parts)


def _cell(value: str | int | float) -> str:
    return value if isinstance(value, str) else f"{value:,g}" if isinstance(value, float) else f"{value:,}"


def _markdown(text: str) -> str:
    """The text as Markdown shows it literally, on one line."""
    return (
        re.sub(r"([\\`*_{}\[\]()#+!|~$-])", r"\\\1", " ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;")
    )


def _embedded(path: Path) -> str:
    return f"data:{MIME[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix().replace(" ", "%20")
