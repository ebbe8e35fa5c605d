"""The command of the bundle, as people call it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from toy import write_photo

import pipeline.edge
from pipeline.edge.classify import main
from pipeline.edge.results import COLUMNS

from .calls import APIS, CALL, ROOT, json_of, process, rows_of


def test_lines_on_the_terminal(packed: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(packed, [str(photos)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{photos}/a/l'été, à la mer.png: Pieris rapæ ")
    assert "(main, " in first
    assert second.startswith(f"{photos}/b/plain.png: Apis mellifera ")
    assert "(cache, " in second
    assert second.endswith(" ms)")


def test_csv(packed: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out" / "results.csv"
    out.parent.mkdir()
    assert main(packed, [str(photos), "--out", str(out), "--topk", "2"]) == 0
    assert capsys.readouterr().out == f"2 photos, 0 failed: {out}\n"
    rows = rows_of(out)
    assert tuple(rows[0]) == COLUMNS
    assert [row["species"] for row in rows] == ["Pieris rapæ", "Apis mellifera"]
    assert [row["stage"] for row in rows] == ["main", "cache"]
    assert rows[0]["path"] == f"{photos}/a/l'été, à la mer.png"
    assert rows[0]["status"] == "ok"
    assert rows[0]["failures"] == ""
    topk = [part.split("=") for part in rows[0]["topk"].split("; ")]
    assert len(topk) == 2
    assert topk[0] == ["Pieris rapæ", rows[0]["score"]]
    assert [part.split("=")[0] for part in rows[0]["infer_ms"].split("; ")] == ["cache", "main"]
    assert float(rows[0]["decode_ms"]) > 0
    assert [path.name for path in out.parent.iterdir()] == ["results.csv"]


def test_jsonl(packed: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "results.jsonl"
    out.parent.mkdir()
    assert main(packed, [str(photos), "--out", str(out)]) == 0
    rows = json_of(out)
    assert tuple(rows[0]) == COLUMNS
    assert [row["species"] for row in rows] == ["Pieris rapæ", "Apis mellifera"]
    assert set(rows[0]["infer_ms"]) == {"cache", "main"}
    assert rows[0]["topk"][0] == ["Pieris rapæ", rows[0]["score"]]
    assert len(rows[0]["topk"]) == 5
    assert len(rows[1]["topk"]) == 2  # the cache answered; it has two labels
    assert [path.name for path in out.parent.iterdir()] == ["results.jsonl"]


def refused(packed: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as error:
        main(packed, arguments)
    assert error.value.code == 2
    return capsys.readouterr().err


def test_wrong_usage(packed: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file or folder: nowhere" in refused(packed, [str(photos), "nowhere"], capsys)
    assert "no such file or folder: nowhere" in refused(packed, ["--camera", "nowhere"], capsys)
    assert "must end in .csv or .jsonl, not 'r.xlsx'" in refused(packed, [str(photos), "--out", "r.xlsx"], capsys)
    assert "at least 1" in refused(packed, [str(photos), "--topk", "0"], capsys)
    assert "at least 1" in refused(packed, [str(photos), "--threads", "0"], capsys)
    assert "IMAGE|FOLDER" in refused(packed, [], capsys)
    assert "one of them" in refused(packed, [str(photos), "--list", "x"], capsys)
    assert "--every above 0" in refused(packed, [str(photos), "--every", "0"], capsys)


def test_no_photos(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(packed, [str(tmp_path / "empty"), "--out", str(tmp_path / "r.csv")]) == 1
    assert capsys.readouterr().err.startswith("error: no photos (.jpg, ")
    assert not list(tmp_path.glob("r.csv*"))


def test_no_bundle(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path, [str(photos)]) == 1
    assert capsys.readouterr().err == f"error: no cascade.json in {tmp_path}; this is not a bundle\n"


def test_a_result_folder_that_does_not_exist(
    packed: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(packed, [str(photos), "--out", str(tmp_path / "no" / "r.csv")]) == 1
    assert "No such file or directory" in capsys.readouterr().err


def test_a_package_that_is_not_installed(
    packed: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(packed, [str(photos)]) == 1
    assert "pip install -r requirements.txt" in capsys.readouterr().err


def test_the_reader_of_the_lines_may_go_away(packed: Path, tmp_path: Path) -> None:
    for i in range(30):
        write_photo(tmp_path / "photos" / f"{i:02}.png", APIS)
    for i in range(30, 1500):  # more lines than a pipe holds
        (tmp_path / "photos" / f"{i:04}.png").hardlink_to(tmp_path / "photos" / "00.png")
    arguments = [sys.executable, "-c", CALL, str(packed), str(tmp_path / "photos")]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout
        assert running.stderr
        assert "Apis mellifera" in running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == ""
        assert running.wait(timeout=60) == 1


def test_help_needs_no_package_at_all() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from edge.classify import main\n"
        "try: main(None, ['--help'])\n"
        "finally: print([m for m in ('numpy', 'PIL', 'onnxruntime') if m in sys.modules])"
    )
    done = process(code, str(Path(pipeline.edge.__file__).parents[1]))
    assert done.returncode == 0
    assert done.stdout.rstrip().endswith("[]")
    assert "  classify.py photos/ --topk 3 --out results.csv " in done.stdout
