"""The workshop: its five parts run one after the other on a small demo set, and are kept without outputs."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from test_main_job import write_config

from pipeline.dataset.demo.make import make_demo

ROOT = Path(__file__).resolve().parents[1]
BOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """The experiment's folder after all five parts, and what each part printed; a cell that fails ends it here."""
    root = tmp_path_factory.mktemp("workshop")
    yaml = write_config(root, make_demo(root / "demo", seed=0, scale=0.08, workers=1))
    settings = {"OMMATIDIA_WORKSHOP": str(yaml), "OMP_NUM_THREADS": "1", "IPYTHONDIR": str(root / "ipython")}
    with pytest.MonkeyPatch.context() as patch:
        for key, value in settings.items():
            patch.setenv(key, value)
        told = {}
        for path in BOOKS:
            book = copy.deepcopy(read(path))
            NotebookClient(book, timeout=300, resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute(
                env={**os.environ}
            )
            told[path.stem] = "\n".join(
                str(output.get("text", output.get("data", "")))
                for cell in book.cells
                if cell.cell_type == "code"
                for output in cell.outputs
            )
        yield root, told


def test_there_are_five_parts() -> None:
    assert [path.stem for path in BOOKS] == ["1_data", "2_training", "3_evaluation", "4_explanation", "5_device"]


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path: Path) -> None:
    book = read(path)
    nbformat.validate(book)
    for cell in book.cells:
        assert not cell.metadata
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_every_step_answers_a_question(path: Path) -> None:
    cells = read(path).cells
    assert cells[0].source.startswith(f"# {path.stem[0]} · ")
    for before, cell in pairwise(cells):
        if cell.cell_type == "code":
            question, _, prose = before.source.partition("\n")
            assert before.cell_type == "markdown" and question.startswith("## ") and question.endswith("?")
            assert len(prose.split()) > 10


def test_the_workshop_runs_from_photos_to_a_bundle(ran: tuple[Path, dict[str, str]]) -> None:
    root, told = ran
    output = root / "output" / "toy"
    assert (output / "bundle" / "classify.py").is_file() and (output / "explanations" / "check.csv").is_file()
    assert (output / "answered.png").is_file()
    assert "photos could not be used" in told["1_data"]
    for name in ("1_data", "2_training", "3_evaluation", "4_explanation"):
        assert "image/png" in told[name]
    assert "multiply-accumulates" in told["2_training"]
    assert "photos that reach main" in told["3_evaluation"]
    assert "gain_low_95" in told["4_explanation"]
    assert "ms per photo, here" in told["5_device"]
