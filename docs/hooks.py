"""Pages made from what the project itself says: its parsers, its reference configuration, its measures, its modules."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # mkdocs takes it away again when this file is loaded

from pipeline import cli

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
DEVICE = "from pathlib import Path; from pipeline.edge.classify import main; main(Path())"  # the bundle's own is packed
API = (
    "config", "console", "errors", "files", "labels",
    "edge.recipe", "edge.cascade", "edge.rule", "edge.model", "edge.labels",
    "dataset.formats.base", "dataset.sources.listing", "dataset.manifest", "dataset.splitting", "dataset.dominance",
    "models.registry", "models.checkpoint", "training.losses", "training.schedule",
    "compression.export", "compression.quantization",
    "evaluation.metrics", "evaluation.routing", "evaluation.simulation.monte_carlo",
    "explaining.methods", "explaining.faithful", "explaining.run", "explaining.visualise", "explaining.dream",
    "deploy.bundle", "deploy.answering", "listening",
    "bulk.listing", "bulk.job", "bulk.work", "bulk.engines", "cluster",
    "serving.run", "serving.limits", "serving.app", "serving.engine", "serving.batching", "serving.schemas",
    "field.remote", "field.spool", "field.link", "field.sender",
    "page.start", "page.asking", "page.occlusion", "page.trade_off",
)  # fmt: skip


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of benchmarks/, whose links to result files become plain names."""
    for page in sorted(BENCHMARKS.glob("*.md")):
        if page.name != "README.md":
            files.append(File.generated(config, f"measured/{page.name}", content=_unlinked(page)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the parts that a comment stands for."""
    for name, part in (("commands", commands), ("settings", settings), ("measured", measured), ("modules", modules)):
        if (mark := f"<!-- {name} -->") in markdown:
            markdown = markdown.replace(mark, "\n".join(part()))
    return markdown


def commands() -> Iterator[str]:
    """The help text of each command, as it prints it."""
    calls = {name: [str(path)] for name, path in cli.scripts().items()}
    calls["classify.py, on the device"] = ["-c", DEVICE]
    for name, call in calls.items():
        text = subprocess.run(
            [sys.executable, *call, "--help"], capture_output=True, text=True, check=True, cwd=ROOT,
            env={**os.environ, "COLUMNS": "100"},
        )  # fmt: skip
        yield f"## {name}\n\n```text\n{text.stdout}```\n"


def settings() -> Iterator[str]:
    """config.yaml as it is."""
    yield f"```yaml\n{(ROOT / 'config.yaml').read_text(encoding='utf-8')}```"


def measured() -> Iterator[str]:
    """A link per page of benchmarks/, with its title."""
    for page in sorted(BENCHMARKS.glob("*.md")):
        if page.name != "README.md":
            title = page.read_text(encoding="utf-8").split("\n")[0].lstrip("# ")
            yield f"* [{title}](measured/{page.name})"


def modules() -> Iterator[str]:
    """What mkdocstrings makes of the modules."""
    for name in API:
        yield f"## pipeline.{name}\n\n::: pipeline.{name}\n    options: {{show_root_heading: false}}\n"


def _unlinked(page: Path) -> str:
    """The page; its links to what is no page of the documentation are `names`."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"\[([^\]]+)\]\((?!http|\w+\.md)[^)]+\)", lambda found: f"`{found[1].strip('`')}`", text)
