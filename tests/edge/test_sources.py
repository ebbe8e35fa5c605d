"""Where photos come from: files, folders, lists, a watched folder, a camera; and the bad ones among them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toy import write_photo

from pipeline.edge.classify import main
from pipeline.edge.errors import BundleError
from pipeline.edge.recipe import MAX_PIXELS
from pipeline.edge.sources import camera, find, watched

from .calls import APIS, CALL, PIERIS, ROOT, json_of, process, rows_of


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
    assert main(packed, [str(folder), "--out", str(tmp_path / "r.jsonl")]) == 3  # nothing new
    assert main(packed, [str(folder), "--out", str(tmp_path / "r.csv")]) == 3
    assert rows_of(tmp_path / "r.csv")[0]["failures"] == "is no image in a format that Pillow knows"


def test_a_picture_that_is_too_large_is_not_decoded(packed: Path, tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    assert MAX_PIXELS < 20_000**2
    assert main(packed, [str(tmp_path / "huge.png"), "--out", str(tmp_path / "r.jsonl")]) == 3
    assert "exceeds limit of 200000000 pixels" in json_of(tmp_path / "r.jsonl")[0]["failures"][0]


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


def test_a_list_on_stdin_names_a_file_that_is_not_unicode(packed: Path, tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "a.png", APIS)
    name = os.fsencode(tmp_path) + b"/\xe9t\xe9.png"
    os.rename(photo, name)
    command = [sys.executable, "-c", CALL, str(packed), "--list", "-", "--out", str(tmp_path / "r.jsonl")]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    subprocess.run(command, cwd=ROOT, input=name + b"\n", env=strict, check=True, timeout=120)
    assert [row["status"] for row in json_of(tmp_path / "r.jsonl")] == ["ok"]


def test_a_watched_folder_gives_a_photo_when_it_no_longer_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = [0]
    growing = tmp_path / "b.jpg"

    def meanwhile(seconds: float) -> None:
        assert seconds == 7
        looks[0] += 1
        if looks[0] < 3:
            growing.write_bytes(b"x" * looks[0])
        if looks[0] == 6:
            (tmp_path / "a.png").unlink()
        if looks[0] == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.edge.sources.time.sleep", meanwhile)
    write_photo(tmp_path / "a.png", APIS)
    seen: dict[str, list[int]] = {"a.png": [], "b.jpg": []}
    with pytest.raises(KeyboardInterrupt):
        for path in watched([str(tmp_path)], 7):
            seen[path.name].append(looks[0])
    assert seen == {"a.png": [1, 2, 3, 4, 5], "b.jpg": [3, 4, 5, 6, 7, 8]}  # again and again while it is new


def test_a_watched_photo_that_nobody_writes_any_more_is_given_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(range(5))
    monkeypatch.setattr("pipeline.edge.sources.time.sleep", lambda _: next(looks))
    photo = write_photo(tmp_path / "a.png", APIS)
    os.utime(photo, (1e9, 1e9))
    seen = []
    with pytest.raises(RuntimeError):  # looks ends
        for path in watched([str(tmp_path)], 7):
            seen.append(path.name)
    assert seen == ["a.png"]


@pytest.mark.parametrize("whole_at_last", [True, False])
def test_an_upload_that_stalls_gets_its_row_when_it_is_whole_or_given_up(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_at_last: bool
) -> None:
    whole = write_photo(tmp_path / "whole.png", APIS, (64, 64)).read_bytes()
    photo, looks = tmp_path / "incoming" / "a.png", iter(range(20))
    photo.parent.mkdir()
    photo.write_bytes(whole[: len(whole) // 2])

    def meanwhile(seconds: float) -> None:
        if (look := next(looks)) == 9:
            assert not (tmp_path / "r.jsonl").read_text()
            if whole_at_last:
                photo.write_bytes(whole)
            else:
                os.utime(photo, (1e9, 1e9))  # long ago
        if look == 15:
            raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.edge.sources.time.sleep", meanwhile)
    assert main(packed, ["--watch", str(photo.parent), "--out", str(tmp_path / "r.jsonl")]) == 130
    (row,) = json_of(tmp_path / "r.jsonl")
    assert row["status"] == ("ok" if whole_at_last else "failed")


def test_a_folder_that_vanishes_while_it_is_looked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photo(tmp_path / "a.png", APIS)
    write_photo(tmp_path / "upload" / "b.png", APIS)
    real = os.scandir

    def late(path: str) -> Any:
        if str(path).endswith("upload"):
            shutil.move(path, f"{tmp_path} is whole")
        return real(path)

    monkeypatch.setattr(os, "scandir", late)
    assert [path.name for path in find([str(tmp_path)])] == ["a.png"]


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
    """Takes three photos, then somebody pulls its cable: `end` says how that shows."""

    end: type[BaseException] = RuntimeError

    def __enter__(self) -> FakeCamera:
        self.taken, self.waiting = 0, False
        return self

    def __exit__(self, *given: Any) -> None:
        assert not self.waiting, "picamera2 would wait for the last shot for ever"

    def cancel_all_and_flush(self) -> None:
        self.waiting = False

    def create_still_configuration(self) -> dict[str, Any]:
        return {}

    def start(self, configuration: dict[str, Any]) -> None: ...

    def capture_file(self, path: str, wait: float | None = None) -> None:
        if self.taken == 3 and self.end is not RuntimeError:
            assert wait, "picamera2 would wait for ever"
            self.waiting = True
            raise self.end
        if self.taken == 3:
            raise RuntimeError("Failed to queue request")
        self.taken += 1
        write_photo(Path(path).with_suffix(".png"), APIS).rename(path)


@pytest.fixture
def fake_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", types.SimpleNamespace(Picamera2=FakeCamera))
    monkeypatch.setattr("pipeline.edge.sources.time.sleep", lambda seconds: None)


@pytest.mark.usefixtures("fake_camera")
@pytest.mark.parametrize(
    ("end", "code", "told"),
    [
        (RuntimeError, 1, "the camera does not answer (RuntimeError('Failed to queue request')); check its cable"),
        (TimeoutError, 1, "the camera does not answer (TimeoutError()); check its cable"),
        (KeyboardInterrupt, 130, "interrupted; the same command goes on"),
    ],
)
def test_a_camera_that_vanishes(
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    end: type[BaseException],
    code: int,
    told: str,
) -> None:
    monkeypatch.setattr(FakeCamera, "end", end)
    out = tmp_path / "r.jsonl"
    (tmp_path / "shots").mkdir()
    assert main(packed, ["--camera", str(tmp_path / "shots"), "--out", str(out)]) == code
    assert told in capsys.readouterr().err
    assert [row["species"] for row in json_of(out)] == ["Apis mellifera"] * 3
    assert len(list((tmp_path / "shots").glob("*.jpg"))) == 3


@pytest.mark.usefixtures("fake_camera")
def test_a_shot_without_a_row_is_answered_by_the_next_start(packed: Path, tmp_path: Path) -> None:
    """As a power cut between the shot and its row leaves it."""
    shots, out = tmp_path / "shots", tmp_path / "r.jsonl"
    for name in ("1.png", "2.png"):
        write_photo(shots / name, PIERIS)
    assert main(packed, [str(shots / "1.png"), "--out", str(out)]) == 0
    assert main(packed, ["--camera", str(shots), "--out", str(out)]) == 1
    names = [Path(row["path"]).name for row in json_of(out)]
    assert (names[:2], len(names)) == (["1.png", "2.png"], 5)
    assert sorted(names) == sorted(path.name for path in shots.iterdir())


@pytest.mark.usefixtures("fake_camera")
def test_without_a_results_file_earlier_shots_are_not_told_of_again(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photo(tmp_path / "shots" / "1.png", PIERIS)
    assert main(packed, ["--camera", str(tmp_path / "shots")]) == 1
    told = capsys.readouterr().out
    assert (told.count("Apis mellifera"), told.count("Pieris")) == (3, 0)


def test_a_camera_package_that_was_built_for_another_numpy(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "picamera2.py").write_text("raise ValueError('numpy.dtype size changed')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "picamera2", raising=False)
    assert main(packed, ["--camera", str(tmp_path)]) == 1
    told = "(numpy.dtype size changed); run: pip install --force-reinstall --no-deps simplejpeg"
    assert told in capsys.readouterr().err


def test_no_camera_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(BundleError, match="sudo apt install python3-picamera2"):
        next(camera(tmp_path, 1))
