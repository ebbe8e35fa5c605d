"""The doctor, and the times of the benchmark."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from toy import write_photo

from pipeline.edge.cascade import Answer, Cascade, load_cascade
from pipeline.edge.classify import main
from pipeline.edge.doctor import times

from .calls import APIS, PIERIS


@pytest.fixture
def healthy(packed: Path, tmp_path: Path) -> Path:
    """A bundle with a self-test."""
    folder = Path(shutil.copytree(packed, tmp_path / "bundle"))
    write_photo(folder / "self_test.png", APIS)
    description = json.loads((folder / "cascade.json").read_text(encoding="utf-8"))
    answers = {
        stage.name: list(Cascade([stage]).classify(folder / "self_test.png", 1).topk[0])
        for stage in load_cascade(folder).stages
    }
    (folder / "cascade.json").write_text(json.dumps({**description, "self_test": answers}), encoding="utf-8")
    return folder


def test_doctor(healthy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(healthy, ["doctor"]) == 0
    told = capsys.readouterr().out
    for words in ("python 3", "onnxruntime 1", "numpy 2", "pillow 1", "cpu features: ", "all is well"):
        assert words in told
    assert "cache: 2 labels, 32 px; self-test Apis mellifera" in told
    assert "main: 5 labels, 32 px; self-test Apis mellifera" in told


def test_doctor_finds_a_wrong_answer(healthy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photo(healthy / "self_test.png", PIERIS)
    assert main(healthy, ["doctor"]) == 1
    told = capsys.readouterr().out
    assert "WRONG: should be Apis mellifera" in told
    assert "2 of 2 stages answer wrongly; copy the bundle again" in told


def test_doctor_of_a_bundle_without_expected_answers(
    packed: Path, healthy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(packed / "cascade.json", healthy / "cascade.json")
    assert main(healthy, ["doctor"]) == 1
    assert "WRONG: should be (the bundle does not say; pack it again)" in capsys.readouterr().out


@pytest.mark.parametrize("left", [None, 100])
def test_doctor_of_a_bundle_that_was_not_copied_whole(
    healthy: Path, capsys: pytest.CaptureFixture[str], left: int | None
) -> None:
    photo = healthy / "self_test.png"
    data = photo.read_bytes()
    photo.unlink()
    if left:
        photo.write_bytes(data[:left])
    assert main(healthy, ["doctor"]) == 1
    assert re.search(r"error: self_test.png .*; copy the bundle again\n", capsys.readouterr().err)


def test_doctor_of_a_changed_model(healthy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (healthy / "main.onnx").write_bytes((healthy / "cache.onnx").read_bytes())
    assert main(healthy, ["doctor"]) == 1
    assert "main.onnx is not the file that was packed; copy the bundle again" in capsys.readouterr().err


def test_benchmark(packed: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(packed, [str(photos), "--benchmark"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split(" p50")[0].rstrip() for line in told[2:-1]] == [
        "decode",
        "prepare",
        "cache",
        "main",
        "a photo, in all",
    ]
    assert told[-1].startswith("peak memory")
    assert 20 < float(told[-1].split()[-2]) < 20_000
    assert told[5].endswith("1 photos")


def test_times_by_hand() -> None:
    answers = [Answer(str(i), decode_ms=i, preprocess_ms=1.0, infer_ms={"cache": 2.0}) for i in range(101)]
    lines = times(answers).splitlines()
    assert lines[0].split() == ["decode", "p50", "50.00", "ms", "p95", "95.00", "ms", "101", "photos"]
    assert "53.00 ms" in lines[3]
