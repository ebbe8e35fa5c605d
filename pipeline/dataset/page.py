"""A page of titled sections with tables and pictures, as self-contained HTML and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import pages

Row = Sequence[str | int | float]


@dataclass(frozen=True)
class Part:
    """One section of the page. pictures: (path, caption); folded: collapsed at first."""

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
    filters: dict[str, Callable[..., str]] = {"md": pages.markdown, "cell": _cell, "embedded": pages.embedded}
    filters["below"] = lambda path: _below(path, root)
    return pages.render(Path(__file__).with_name(template), filters, title=title, lead=lead, parts=parts)


def _cell(value: str | int | float) -> str:
    return value if isinstance(value, str) else f"{value:,g}" if isinstance(value, float) else f"{value:,}"


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix().replace(" ", "%20")
