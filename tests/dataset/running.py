"""What the tests of the stages share: what a run did, and what it left."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.config import Config
from pipeline.dataset.manifest import Manifest, read_manifest

NAMES = ["analyse", "match", "copy", "verify", "split", "label", "manifest", "plots", "test_sets", "card"]
TO_MANIFEST = NAMES[:7]
MakeConfig = Callable[..., Config]
Lines = Callable[[], list[str]]


def redone(lines: list[str]) -> list[str]:
    """The stages that did something, of the lines of one run."""
    told = {line.split()[0]: line for line in lines if line.split()[0] in NAMES}
    return [name for name, line in told.items() if "up to date" not in line]


def files(config: Config) -> dict[str, bytes]:
    folder = config.dataset_dir
    made = sorted(path for path in folder.rglob("*") if path.is_file() and ".stamps" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in made}


def manifest(config: Config) -> Manifest:
    return read_manifest(config.dataset_dir, config.paths.dst_dataset)
