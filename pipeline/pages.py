"""Self-contained HTML pages: templates with escaping, embedded pictures."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps


def render(template: Path, filters: Mapping[str, Callable[..., str]] | None = None, **data: Any) -> str:
    """Fill a template; in .html.jinja every value is escaped, and a name that is missing is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # slow to import, and few commands write pages

    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=template.name.endswith(".html.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters or {}
    return environment.get_template(template.name).render(**data)


def embedded(path: Path) -> str:
    """A PNG or JPEG file as a data URI."""
    return _uri("png" if path.suffix == ".png" else "jpeg", path.read_bytes())


def png_text(path: Path) -> dict[str, str]:
    """The text metadata of a PNG file."""
    with Image.open(path) as image:
        return {str(key): value for key, value in image.info.items() if isinstance(value, str)}


def thumbnail(path: Path, side: int = 128) -> str:
    """A photo as a small JPEG data URI; empty where it is no longer readable."""
    try:
        with Image.open(path) as image:
            image.draft("RGB", (side, side))
            small = ImageOps.exif_transpose(image).convert("RGB")
            small.thumbnail((side, side))
    except (OSError, ValueError, Image.DecompressionBombError):
        return ""
    stored = io.BytesIO()
    small.save(stored, "JPEG", quality=80)
    return _uri("jpeg", stored.getvalue())


def markdown(text: str) -> str:
    """The text as Markdown shows it literally, on one line."""
    return (
        re.sub(r"([\\`*_{}\[\]()#+!|~$-])", r"\\\1", " ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;")
    )


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
