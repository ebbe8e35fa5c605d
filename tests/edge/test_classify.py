"""The command of the bundle, as people call it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toy import COLOURS, cache_colours, write_cascade, write_photo

import pipeline.edge
from pipeline.edge.classify import COLUMNS, find, main
from pipeline.edge.recipe import MAX_PIXELS

APIS, PIERIS = COLOURS["Apis mellifera"], COLOURS["Pieris rapæ"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    stages = [("cache", cache_colours("Apis mellifera"), 0.5), ("main", COLOURS, 0.0)]
    return write_cascade(tmp_path_factory.mktemp("bundle"), stages)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two good photos, one of which has spaces and accents in its name, in nested folders."""
    write_photo(tmp_path / "photos" / "b" / "plain.png", APIS)
    write_photo(tmp_path / "photos" / "a" / "l'été, à la mer.png", PIERIS)
    return tmp_path / "photos"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def json_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# what comes out -----------------------------------------------------------------------------------------------------


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


def test_a_result_file_is_replaced(packed: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.csv"
    out.write_text("what was there")
    assert main(packed, [str(photos / "b"), "--out", str(out)]) == 0
    assert len(rows_of(out)) == 1


# what goes in -------------------------------------------------------------------------------------------------------


def test_folders_are_searched_in_sorted_order_and_files_taken_as_named(tmp_path: Path) -> None:
    names = ["b/2.JPG", "b/1.png", "a/z/deep.webp", "a/c.tif", "top.jpeg", "notes.txt", "b/._1.png", ".trash/x.jpg"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [str(path.relative_to(tmp_path)) for path in find([str(tmp_path)])]
    assert found == ["top.jpeg", "a/c.tif", "a/z/deep.webp", "b/1.png", "b/2.JPG"]
    named = [str(tmp_path / name) for name in ("notes.txt", "b/._1.png")]
    assert [str(path) for path in find(named)] == named


def test_bad_photos_are_rows_with_their_reason(packed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    good = write_photo(folder / "3 good.png", APIS)
    (folder / "1 text.jpg").write_text("this is a text file")
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(folder / "2 truncated.jpg")
    data = (folder / "2 truncated.jpg").read_bytes()
    (folder / "2 truncated.jpg").write_bytes(data[: len(data) // 2])
    (folder / "4 empty.png").touch()
    assert main(packed, [str(folder), "--out", str(tmp_path / "r.jsonl")]) == 3
    rows = json_of(tmp_path / "r.jsonl")
    assert [row["status"] for row in rows] == ["failed", "failed", "ok", "failed"]
    assert rows[0]["failures"] == ["is no image in a format that Pillow knows"]
    assert rows[1]["failures"][0].startswith("cannot be decoded: ")
    assert rows[2]["path"] == str(good)
    assert all(row["species"] == "" and row["topk"] == [] for row in rows if row["status"] == "failed")
    assert main(packed, [str(folder), "--out", str(tmp_path / "r.csv")]) == 3
    assert rows_of(tmp_path / "r.csv")[0]["failures"] == "is no image in a format that Pillow knows"


def test_a_picture_that_is_too_large_is_not_decoded(packed: Path, tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    assert MAX_PIXELS < 20_000**2
    assert main(packed, [str(tmp_path / "huge.png"), "--out", str(tmp_path / "r.jsonl")]) == 3
    assert "megapixels" in json_of(tmp_path / "r.jsonl")[0]["failures"][0]


def test_a_name_that_is_not_unicode(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    good = write_photo(folder / "good.png", APIS)
    os.rename(good, os.fsencode(folder) + b"/\xe9t\xe9.png")
    for kind in ("csv", "jsonl"):
        assert main(packed, [str(folder), "--out", str(tmp_path / f"r.{kind}")]) == 0
    assert os.fsencode(json_of(tmp_path / "r.jsonl")[0]["path"]).endswith(b"/\xe9t\xe9.png")
    assert rows_of(tmp_path / "r.csv")[0]["path"].endswith(r"\udce9t\udce9.png")
    capsys.readouterr()
    assert main(packed, [str(folder)]) == 0
    assert r"\udce9t\udce9.png: Apis mellifera" in capsys.readouterr().out


# wrong usage --------------------------------------------------------------------------------------------------------


def refused(packed: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as error:
        main(packed, arguments)
    assert error.value.code == 2
    return capsys.readouterr().err


def test_wrong_usage(packed: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file or folder: nowhere" in refused(packed, [str(photos), "nowhere"], capsys)
    assert "must end in .csv or .jsonl, not 'r.xlsx'" in refused(packed, [str(photos), "--out", "r.xlsx"], capsys)
    assert "at least 1" in refused(packed, [str(photos), "--topk", "0"], capsys)
    assert "at least 1" in refused(packed, [str(photos), "--threads", "0"], capsys)
    assert "IMAGE|FOLDER" in refused(packed, [], capsys)


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


# in a process of its own --------------------------------------------------------------------------------------------


def process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.edge import cascade, classify
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell starts with SIGINT ignored
asked = iter(range(99))
real = cascade.Cascade.classify
def until_the_third(self, *given):
    if next(asked) == 2:
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    return real(self, *given)
cascade.Cascade.classify = until_the_third
sys.exit(classify.main(Path(sys.argv[2]), sys.argv[3:]))
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_killed_half_way_leaves_no_result_that_looks_whole(packed: Path, tmp_path: Path, how: str) -> None:
    for i in range(4):
        write_photo(tmp_path / "photos" / f"{i}.png", APIS)
    out = tmp_path / "r.csv"
    done = process(KILLED, how, str(packed), str(tmp_path / "photos"), "--out", str(out))
    assert done.returncode == (-signal.SIGKILL if how == "SIGKILL" else 130)
    assert "Traceback" not in done.stderr
    assert not out.exists()
    assert len(rows_of(tmp_path / "r.csv.part")) == 2  # what was done can still be read
    assert main(packed, [str(tmp_path / "photos"), "--out", str(out)]) == 0
    assert len(rows_of(out)) == 4
    assert not (tmp_path / "r.csv.part").exists()


def test_the_reader_of_the_lines_may_go_away(packed: Path, tmp_path: Path) -> None:
    for i in range(30):
        write_photo(tmp_path / "photos" / f"{i:02}.png", APIS)
    code = "import sys; from pathlib import Path; from pipeline.edge.classify import main; "
    code += "sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))"
    arguments = [sys.executable, "-c", code, str(packed), *[str(tmp_path / "photos")] * 100]  # more than a pipe holds
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
    assert "example: classify.py photos/ --topk 3 --out results.csv" in done.stdout
