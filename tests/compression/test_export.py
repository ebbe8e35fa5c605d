"""ONNX files that say the same as torch, know their labels and recipe, and tell nothing of this machine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from pipeline.compression.export import OPSET, export, parity
from pipeline.edge.model import METADATA_KEY, Model
from pipeline.errors import ModelError

from .conftest import CARD, Exported, photos

Make = Callable[[str], Exported]
NETWORKS = ["mcunet-in2", "test_resnet"]
REPOSITORY = Path(__file__).resolve().parents[2]


class Mean(nn.Module):
    """The mean colour, times a matrix: the smallest network."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(scale * torch.eye(3))

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        return planes.mean((2, 3)) @ self.weight


class Odd(Mean):
    """Cannot be exported: which way it goes depends on the photos."""

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        logits = super().forward(planes)
        return logits if logits.sum() > 0 else -logits


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("n", [1, 5])
def test_logits_equal_torchs_for_any_number_of_photos(exported: Make, name: str, n: int) -> None:
    one, some = exported(name), photos(n, 77)
    found, expected = Model(one.fp32).logits(some), one.logits(some)
    assert found.shape == (n, 3)
    assert np.abs(found - expected).max() < 1e-3
    assert np.ptp(expected) > 0.1  # the logits say something


@pytest.mark.parametrize("name", NETWORKS)
def test_input_is_uint8_rgb_and_output_logits(exported: Make, name: str) -> None:
    for path in (exported(name).fp32, exported(name).int8):
        session = Model(path).session
        (given,), (answer,) = session.get_inputs(), session.get_outputs()
        assert (given.name, given.type, given.shape[1:]) == ("input", "tensor(uint8)", [48, 48, 3])
        assert (answer.name, answer.type, answer.shape[1:]) == ("output", "tensor(float)", [3])
        assert isinstance(given.shape[0], str)
        assert {entry.domain: entry.version for entry in onnx.load(path).opset_import}[""] >= OPSET


def test_file_carries_labels_recipe_and_hashes(exported: Make) -> None:
    one = exported("test_resnet")
    (entry,) = onnx.load(one.fp32).metadata_props
    assert entry.key == METADATA_KEY
    card = json.loads(entry.value)
    assert card["labels"] == ["Apis mellifera", "Pieris rapæ", "Other"]
    assert (card["label_hash"], card["recipe_hash"]) == (one.card.labels.hash, one.card.recipe.hash)
    assert card["recipe"] == one.card.recipe.to_dict()
    assert (card["architecture"], card["precision"]) == ("test_resnet", "fp32")
    model = Model(one.fp32)
    assert (model.labels, model.recipe) == (one.card.labels.names, one.card.recipe)


@pytest.mark.parametrize("name", NETWORKS)
def test_file_tells_nothing_of_this_machine(exported: Make, name: str) -> None:
    one = exported(name)
    for path in (one.fp32, one.int8):
        content = path.read_bytes()
        for place in (REPOSITORY, Path.home(), tempfile.gettempdir(), "/home", "site-packages", "File \\"):
            assert str(place).encode() not in content
        proto = onnx.load(path)
        assert not any(node.doc_string or node.metadata_props for node in proto.graph.node)
        assert not any(value.metadata_props for value in [*proto.graph.value_info, *proto.graph.initializer])


def test_figures_of_agreement_are_returned(exported: Make) -> None:
    figures = exported("test_resnet").figures
    assert (figures["photos"], figures["top1_agreement"]) == (12, 1.0)
    assert 0 <= figures["max_logit_difference"] < 1e-3


def test_one_photo_is_enough_and_does_not_fix_the_batch(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    export(Mean(), CARD, tmp_path / "model.onnx", photos(1), 1e-3)
    assert Model(tmp_path / "model.onnx").logits(photos(5)).shape == (5, 3)
    assert capfd.readouterr().out == ""  # the exporter talks
    assert not recwarn.list


def test_logits_that_agree_are_accepted() -> None:
    logits = np.array([[1.0, 2.0], [3.0, 1.0]])
    assert parity(logits, logits + 0.0005, 1e-3, "main") == {
        "photos": 2,
        "max_logit_difference": pytest.approx(0.0005),
        "top1_agreement": 1.0,
    }


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ([[1.0, 2.0]], [[1.0, 2.1]], r"differ by 0\.1 in a logit \(allowed 0\.001\) and agree on 100\.0% of 1 photos"),
        ([[1.0, 1.0004]], [[1.0004, 1.0]], r"differ by 0\.0004 .* agree on 0\.0% of 1 photos"),
        ([[1.0, 2.0]], [[float("nan"), 2.0]], "differ by nan"),
        ([[float("nan"), 2.0]], [[float("nan"), 2.0]], "differ by nan"),
        ([[float("inf"), 2.0]], [[float("inf"), 2.0]], "differ by nan"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_disagreement_is_refused(ours: list[list[float]], theirs: list[list[float]], message: str) -> None:
    with pytest.raises(ModelError, match=f"export of main refused: torch and onnxruntime {message}"):
        parity(np.array(ours), np.array(theirs), 1e-3, "main")


def test_network_that_answers_no_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="export of main refused: torch's logits are not finite; train it again"):
        export(Mean(float("nan")), CARD, tmp_path / "model.onnx", photos(3), 1e-3)
    assert list(tmp_path.iterdir()) == []


def test_refused_export_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"an older export")
    with pytest.raises(ModelError, match=r"export of main refused: .* \(allowed -1\)"):
        export(Mean(), CARD, tmp_path / "model.onnx", photos(3), -1)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"an older export"]


def test_network_that_cannot_be_exported_is_named_in_one_sentence(tmp_path: Path) -> None:
    card = replace(CARD, architecture="odd_net")
    with pytest.raises(ModelError, match=r"^odd_net cannot be exported to ONNX \([^\n]+\); take another model$"):
        export(Odd(), card, tmp_path / "model.onnx", photos(3), 1e-3)
    assert list(tmp_path.iterdir()) == []
