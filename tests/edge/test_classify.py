"""The command of the bundle, as people call it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toy import COLOURS, cache_colours, write_cascade, write_photo

import pipeline.edge
from pipeline.edge.cascade import Answer, Cascade, load_cascade
from pipeline.edge.classify import main
from pipeline.edge.doctor import times
from pipeline.edge.errors import BundleError
from pipeline.edge.recipe import MAX_PIXELS
from pipeline.edge.results import COLUMNS
from pipeline.edge.sources import camera, find, watched

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


# appended safely ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_the_same_command_again_answers_only_what_is_new(
    packed: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    out = tmp_path / f"r.{kind}"
    assert main(packed, [str(photos), "--out", str(out)]) == 0
    before = out.read_bytes()
    assert main(packed, [str(photos), "--out", str(out)]) == 0
    assert out.read_bytes() == before
    assert capsys.readouterr().out.endswith(f"0 photos, 0 failed, 2 were there before: {out}\n")
    write_photo(photos / "c" / "new\nline, and comma.png", APIS)
    for _ in range(2):
        assert main(packed, [str(photos), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(before)
    assert len(rows_of(out) if kind == "csv" else json_of(out)) == 3


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_wherever_the_file_was_cut_off_each_photo_gets_one_row(packed: Path, tmp_path: Path, kind: str) -> None:
    for i in range(3):
        write_photo(tmp_path / "photos" / f"{i} é.png", APIS)
    out, command = tmp_path / f"r.{kind}", [str(tmp_path / "photos"), "--out", str(tmp_path / f"r.{kind}")]
    main(packed, command)
    whole = out.read_bytes()
    for end in [*range(0, len(whole), 61), len(whole) - 1]:
        for tail in (b"", b"\0" * 100):  # zeros: what a power cut leaves where the file had grown already
            out.write_bytes(whole[:end] + tail)
            assert main(packed, command) == 0
            rows: list[Any] = rows_of(out) if kind == "csv" else json_of(out)
            assert [Path(row["path"]).name for row in rows] == ["0 é.png", "1 é.png", "2 é.png"]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "some text\n", "[1]\n"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_file_of_something_else_is_not_touched(
    packed: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, text: str
) -> None:
    out = tmp_path / f"r.{kind}"
    out.write_text(text)
    assert main(packed, [str(photos), "--out", str(out)]) == 1
    assert "holds something else than results" in capsys.readouterr().err
    assert out.read_text() == text


@pytest.mark.parametrize("reason", [PermissionError(13, "Permission denied"), OSError(28, "No space left on device")])
def test_a_results_file_that_cannot_be_written(
    packed: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    reason: OSError,
) -> None:  # fmt: skip
    def refuse(*given: Any, **more: Any) -> None:
        raise reason

    monkeypatch.setattr(Path, "open", refuse)
    assert main(packed, [str(photos), "--out", str(tmp_path / "r.csv")]) == 1
    assert capsys.readouterr().err == f"error: {reason}\n"


FULL = """
import resource, signal, sys
from pathlib import Path
from pipeline.edge.classify import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
"""


def test_a_full_disk_is_an_error_and_the_rest_follows_when_there_is_room(packed: Path, tmp_path: Path) -> None:
    for i in range(20):
        write_photo(tmp_path / "photos" / f"{i:02}.png", APIS)
    arguments = [str(tmp_path / "photos"), "--out", str(tmp_path / "r.csv")]
    done = process(FULL, str(packed), *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: [Errno 27] File too large")
    assert main(packed, arguments) == 0
    assert len(rows_of(tmp_path / "r.csv")) == len({row["path"] for row in rows_of(tmp_path / "r.csv")}) == 20


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
    assert main(packed, [str(folder), "--out", str(tmp_path / "r.jsonl")]) == 0  # nothing new, nothing failed
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


def test_many_photos_of_which_some_are_broken(packed: Path, tmp_path: Path) -> None:
    good, bad = write_photo(tmp_path / "good.png", APIS), tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8 no photo")
    names = [tmp_path / "many" / f"{i:04}.{'jpg' if i % 100 == 7 else 'png'}" for i in range(1000)]
    names[0].parent.mkdir()
    for name in names:
        name.hardlink_to(bad if name.suffix == ".jpg" else good)
    assert main(packed, [str(tmp_path / "many"), "--out", str(tmp_path / "r.jsonl"), "--lazy"]) == 3
    rows = json_of(tmp_path / "r.jsonl")
    assert [row["path"] for row in rows] == [str(name) for name in names]
    assert [row["path"][-3:] for row in rows if row["status"] == "failed"] == ["jpg"] * 10
    assert all(row["species"] == "Apis mellifera" for row in rows if row["status"] == "ok")


def test_a_photo_that_changes_while_it_is_read(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.edge import cascade

    real, photo = cascade.decode, write_photo(tmp_path / "a.png", APIS)

    def slow(path: Any, side: int) -> Any:
        image = real(path, side)
        write_photo(photo, PIERIS, (64, 64))
        return image

    monkeypatch.setattr(cascade, "decode", slow)
    assert main(packed, [str(photo), "--out", str(tmp_path / "r.jsonl")]) == 3
    assert json_of(tmp_path / "r.jsonl")[0]["failures"] == ["changed while it was read"]


def test_a_list_of_paths(packed: Path, photos: Path, tmp_path: Path) -> None:
    paths = [str(path) for path in find([str(photos)])]
    (tmp_path / "list.txt").write_text("\n".join([*paths, "", "gone.png"]) + "\r\n", encoding="utf-8")
    assert main(packed, ["--list", str(tmp_path / "list.txt"), "--out", str(tmp_path / "r.jsonl")]) == 3
    rows = json_of(tmp_path / "r.jsonl")
    assert [(row["path"], row["status"]) for row in rows] == [*((path, "ok") for path in paths), ("gone.png", "failed")]


def test_a_list_on_stdin(packed: Path, photos: Path, tmp_path: Path) -> None:
    text = "\n".join(str(path) for path in find([str(photos)]))
    done = process(CALL, str(packed), "--list", "-", "--out", str(tmp_path / "r.csv"), given=text)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(rows_of(tmp_path / "r.csv")) == 2


def test_a_watched_folder_gives_a_photo_when_it_no_longer_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(range(9))
    growing = tmp_path / "b.jpg"

    def meanwhile(seconds: float) -> None:
        assert seconds == 7
        if (look := next(looks)) < 2:
            growing.write_bytes(b"x" * (look + 1))
        if look == 5:
            (tmp_path / "a.png").unlink()

    monkeypatch.setattr("pipeline.edge.sources.time.sleep", meanwhile)
    write_photo(tmp_path / "a.png", APIS)
    seen: list[str] = []
    with pytest.raises(RuntimeError):  # looks ends
        for path in watched([str(tmp_path)], 7):
            seen.append(path.name)
    assert seen[:4] == ["a.png", "a.png", "a.png", "b.jpg"]
    assert seen[-1] == "b.jpg"


def test_watch_answers_each_photo_once_until_it_is_stopped(
    packed: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(range(4))

    def stop(seconds: float) -> None:
        if next(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.edge.sources.time.sleep", stop)
    assert main(packed, ["--watch", str(photos), "--out", str(tmp_path / "r.jsonl")]) == 130
    assert len(json_of(tmp_path / "r.jsonl")) == 2


class FakeCamera:
    """Takes three photos, then somebody pulls its cable."""

    def __enter__(self) -> FakeCamera:
        self.taken = 0
        return self

    def __exit__(self, *given: Any) -> None: ...

    def create_still_configuration(self) -> dict[str, Any]:
        return {}

    def start(self, configuration: dict[str, Any]) -> None: ...

    def capture_file(self, path: str) -> None:
        if self.taken == 3:
            raise RuntimeError("Failed to queue request")
        self.taken += 1
        write_photo(Path(path).with_suffix(".png"), APIS).rename(path)


def test_a_camera_that_vanishes(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", types.SimpleNamespace(Picamera2=FakeCamera))
    monkeypatch.setattr("pipeline.edge.sources.time.sleep", lambda seconds: None)
    out = tmp_path / "r.jsonl"
    (tmp_path / "shots").mkdir()
    assert main(packed, ["--camera", str(tmp_path / "shots"), "--out", str(out)]) == 1
    assert "the camera does not answer (Failed to queue request); check its cable" in capsys.readouterr().err
    assert [row["species"] for row in json_of(out)] == ["Apis mellifera"] * 3
    assert len(list((tmp_path / "shots").glob("*.jpg"))) == 3


def test_no_camera_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(BundleError, match="sudo apt install python3-picamera2"):
        next(camera(tmp_path, 1))


# doctor and benchmark -----------------------------------------------------------------------------------------------


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


# in a process of its own --------------------------------------------------------------------------------------------


CALL = "import sys; from pathlib import Path; from pipeline.edge.classify import main; "
CALL += "sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))"


def process(code: str, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, timeout=120, check=False)


KILLED = """
import os, signal, sys
from pathlib import Path
import onnxruntime  # once, before the children
from pipeline.edge import classify, results
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell starts with SIGINT ignored
class Cut:
    \"\"\"Writes letter by letter, and ends the process after so many of them.\"\"\"
    def __init__(self, file): self.file = file
    def __getattr__(self, name): return getattr(self.file, name)
    def __enter__(self): return self
    def __exit__(self, *given): self.file.close()
    def write(self, text):
        global left
        for letter in text:
            if not left:
                os.kill(os.getpid(), getattr(signal, sys.argv[1]))
            left -= 1
            self.file.write(letter)
            self.file.flush()
real = Path.open
Path.open = lambda self, mode="r", **more: Cut(real(self, mode, **more)) if mode == "a" else real(self, mode, **more)
for left in map(int, sys.argv[2].split()):
    if not (child := os.fork()):
        sys.exit(classify.main(Path(sys.argv[3]), sys.argv[4:]))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_killed_at_any_moment_each_photo_is_answered_exactly_once(packed: Path, tmp_path: Path, how: str) -> None:
    """Killed again and again, at 20 moments, each time after some more letters of the results."""
    names = [f"{i:02}, é.png" for i in range(24)]
    for name in names:
        write_photo(tmp_path / "photos" / name, APIS)
    (tmp_path / "photos" / "99.jpg").write_text("not a picture")
    out, moments = tmp_path / "r.csv", np.random.default_rng(0).integers(0, 300, 20 if how == "SIGKILL" else 3)
    arguments = [str(packed), str(tmp_path / "photos"), "--threads", "1", "--out", str(out)]
    done = process(KILLED, how, " ".join(map(str, moments)), *arguments)
    wanted = -signal.SIGKILL if how == "SIGKILL" else 130
    assert [int(code) for code in done.stdout.split()] == [wanted] * len(moments)
    assert "Traceback" not in done.stderr
    assert main(packed, arguments[1:]) == 3
    assert [Path(row["path"]).name for row in rows_of(out)] == [*names, "99.jpg"]


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
