"""predict.py: the answers of classify.py, each photo once, whatever stops it in between."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from killing import INTERRUPTED, begun, ctrl_c
from toy import COLOURS, Experiment, write_model, write_photo

from pipeline.edge.errors import BundleError
from pipeline.edge.results import COLUMNS, key
from pipeline.errors import ConfigError, DataError, ModelError

from .bulk_rows import ODD, answers, classified

ROOT = Path(__file__).resolve().parents[2]
Predict = Callable[..., int]


# what comes out -----------------------------------------------------------------------------------------------------


def test_rows_are_those_of_classify(predict: Predict, packed: Experiment, photos: Path, tmp_path: Path) -> None:
    assert predict(photos) == 3
    rows, known = answers(tmp_path / "out"), classified(packed, photos, tmp_path / "known.jsonl")
    assert len(rows) == 23
    assert {row["path"]: row for row in rows} == known
    assert {row["stage"] for row in rows} == {"cache", "main", ""}
    assert {key(str(photos / name)) for name in ODD} < {row["path"] for row in rows}


def test_files_have_the_columns_and_sorted_photos(predict: Predict, photos: Path, tmp_path: Path) -> None:
    predict(photos)
    files = sorted((tmp_path / "out" / "answers").iterdir())
    assert [file.name for file in files] == [f"part-{i:08}.parquet" for i in range(6)]
    assert [pq.read_metadata(file).num_rows for file in files] == [4, 4, 4, 4, 4, 3]
    assert tuple(pq.read_schema(files[0]).names) == COLUMNS
    paths = [row["path"].replace(r"\n", "\n") for row in answers(tmp_path / "out")]
    assert paths == sorted(paths, key=lambda path: os.fsencode(path).replace(b"\n", b"\0"))
    told = json.loads((tmp_path / "out" / "job.json").read_text(encoding="utf-8"))
    assert (told["photos"], told["part_size"], told["model"]) == (23, 4, "cascade")
    assert told["labels"]["main"] == list(COLOURS)


def test_rows_do_not_depend_on_the_number_of_workers(predict: Predict, photos: Path, tmp_path: Path) -> None:
    predict(photos)
    assert predict(photos, out=tmp_path / "two", workers=2) == 3
    assert answers(tmp_path / "two") == answers(tmp_path / "out")


def test_one_model_alone(predict: Predict, photos: Path, tmp_path: Path) -> None:
    assert predict(photos, model="main", precision="fp32", topk=2) == 3
    rows = [row for row in answers(tmp_path / "out") if row["status"] == "ok"]
    assert {row["stage"] for row in rows} == {"main"}
    assert {len(row["topk"]) for row in rows} == {2}
    assert predict(photos, "route.precision=fp32", model="main", topk=2) == 3  # the same file: up to date


# what goes in -------------------------------------------------------------------------------------------------------


def test_a_list_a_pattern_and_a_table_name_the_same_photos(predict: Predict, photos: Path, tmp_path: Path) -> None:
    predict(photos)
    names = [str(photos / row["path"]) for row in answers(tmp_path / "out") if r"\n" not in row["path"]]
    (tmp_path / "list.txt").write_text("\n".join(reversed(names + names[:7])) + "\n\n", encoding="utf-8")
    pd.DataFrame({"path": names}).to_parquet(tmp_path / "table.parquet")
    pd.DataFrame({"image_path": [os.path.relpath(name, photos) for name in names]}).to_parquet(tmp_path / "m.parquet")
    predict(tmp_path / "list.txt", out=tmp_path / "1")
    predict(tmp_path / "table.parquet", out=tmp_path / "2")
    predict(tmp_path / "m.parquet", f"paths.dst_dataset={photos}", out=tmp_path / "3")
    predict(photos / "**" / "*", out=tmp_path / "4")
    listed = answers(tmp_path / "1")
    assert [row["path"] for row in listed] == [str(Path(name)) for name in names]
    assert answers(tmp_path / "2") == answers(tmp_path / "3") == listed
    assert [row for row in answers(tmp_path / "4") if r"\n" not in row["path"]] == listed


def test_relative_paths_stay_relative(
    predict: Predict, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    predict("photos/b")
    assert answers(tmp_path / "out")[0]["path"].startswith("photos/b/")
    assert {row["status"] for row in answers(tmp_path / "out")} == {"ok"}


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("none", None, ConfigError, "no file or folder .*none; --input takes a folder of photos, a pattern"),
        ("empty.txt", b"\n \n", DataError, "--input names no photos"),
        ("*.jpg", None, DataError, "--input names no photos"),
        ("bytes", b"a.jpg\nb\0c\n", DataError, "holds a NUL byte"),
        ("bad.parquet", b"PAR1", DataError, "is no Parquet table of paths"),
    ],
)
def test_wrong_input(
    predict: Predict, tmp_path: Path, name: str, content: bytes | None, error: type[Exception], message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        predict(tmp_path / name)


def test_a_table_without_paths(predict: Predict, tmp_path: Path) -> None:
    pd.DataFrame({"file": ["a.jpg"]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"has no column path \(or image_path\); its columns: \['file'\]"):
        predict(tmp_path / "t.parquet")


def test_a_file_system_without_locks_takes_a_job(
    predict: Predict, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    assert predict(photos / "b") == 0


def test_an_empty_folder(predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="--input names no photos"):
        predict(tmp_path / "photos")


# which model --------------------------------------------------------------------------------------------------------


def test_without_a_bundle(predict: Predict, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no bundle at .*; run deploy.py with the same --config first"):
        predict(photos, f"paths.output_dir={tmp_path}")


def test_an_unknown_model(predict: Predict, photos: Path) -> None:
    with pytest.raises(ModelError, match="no exported model at .*mian.*; run train.py and quantize.py"):
        predict(photos, model="mian")


def test_precision_is_of_one_model(predict: Predict, photos: Path) -> None:
    with pytest.raises(ConfigError, match="--precision is of --model; a cascade has that of its bundle"):
        predict(photos, precision="fp32")


def test_a_foreign_model(predict: Predict, photos: Path, tmp_path: Path) -> None:
    place = tmp_path / "models" / "toy" / "main"
    write_model(place / "model.int8.onnx", COLOURS, edit=lambda card: {"made_by": "another program"})
    with pytest.raises(BundleError, match="does not carry labels and recipe; not exported by this project"):
        predict(photos, f"paths.models_dir={tmp_path / 'models'}", model="main")


def looked_at(lines: list[str]) -> list[str]:
    return [line.split()[1] for line in lines if "photos looked at" in line]


# going on -----------------------------------------------------------------------------------------------------------


def test_only_missing_parts_are_done(
    predict: Predict, photos: Path, tmp_path: Path, lines: Callable[[], list[str]]
) -> None:
    predict(photos)
    before = answers(tmp_path / "out")
    files = sorted((tmp_path / "out" / "answers").iterdir())
    changed = {file.name: file.stat().st_mtime_ns for file in files}
    files[1].unlink()
    files[4].unlink()
    lines()
    assert predict(photos) == 3
    assert looked_at(lines()) == ["8"]
    assert answers(tmp_path / "out") == before
    after = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out" / "answers").iterdir()}
    assert [name for name in changed if after[name] != changed[name]] == [files[1].name, files[4].name]
    assert predict(photos) == 3
    assert lines()[-2:] == [
        f"predict   up to date: {tmp_path / 'out'}",
        f"predict   23 photos, 2 failed: {tmp_path / 'out' / 'answers'}",
    ]


def test_failed_photos_alone_are_tried_again(
    predict: Predict, photos: Path, tmp_path: Path, lines: Callable[[], list[str]]
) -> None:
    predict(photos)
    before = {row["path"]: row for row in answers(tmp_path / "out")}
    failed = [path for path, row in before.items() if row["status"] == "failed"]
    assert [Path(path).name for path in failed] == ["broken.jpg", "empty.jpg"]
    assert all(before[path]["failures"] for path in failed)
    write_photo(photos / "c" / "empty.png", COLOURS["Apis mellifera"]).replace(photos / "c" / "empty.jpg")
    lines()
    assert predict(photos, retry_failed=True) == 3
    assert looked_at(lines()) == ["2"]
    after = {row["path"]: row for row in answers(tmp_path / "out")}
    assert [path for path in before if after[path] != before[path]] == [failed[1]]
    assert (after[failed[1]]["status"], after[failed[1]]["species"]) == ("ok", "Apis mellifera")
    write_photo(photos / "a" / "broken.png", COLOURS["Apis mellifera"]).replace(photos / "a" / "broken.jpg")
    assert predict(photos, retry_failed=True) == 0
    assert predict(photos) == 0


def test_failed_photos_wait_for_the_others(predict: Predict, photos: Path, tmp_path: Path) -> None:
    predict(photos)
    next((tmp_path / "out" / "answers").iterdir()).unlink()
    with pytest.raises(DataError, match="1 of 6 parts of .* are missing; run it without --retry-failed first"):
        predict(photos, retry_failed=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part_size": 5}, "was begun with part_size 4, now it is 5; give another --out"),
        ({"topk": 3}, "was begun with topk 5, now it is 3"),
        ({"model": "main"}, "was begun with model cascade, now it is main"),
    ],
)
def test_other_options_are_refused(
    predict: Predict, photos: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    predict(photos)
    with pytest.raises(DataError, match=message):
        predict(photos, **options)
    assert predict(photos) == 3


def test_a_changed_input_is_refused(predict: Predict, photos: Path, tmp_path: Path) -> None:
    predict(photos)
    (photos / "a" / "broken.jpg").unlink()
    with pytest.raises(DataError, match=r"other photos than --input names now \(then 23, now 22\); give another"):
        predict(photos)
    (photos / "a" / "broken2.jpg").touch()
    with pytest.raises(DataError, match=r"then 23, now 23"):
        predict(photos)


def test_a_changed_model_is_refused(predict: Predict, photos: Path, packed: Experiment, tmp_path: Path) -> None:
    place = tmp_path / "models" / "toy" / "main"
    models = f"paths.models_dir={tmp_path / 'models'}"
    write_model(place / "model.int8.onnx", COLOURS)
    predict(photos, models, model="main")
    write_model(place / "model.int8.onnx", COLOURS, sharpness=3.0)
    with pytest.raises(DataError, match=r"was begun with model_sha256 \w+, now it is \w+; give another --out"):
        predict(photos, models, model="main")


def test_what_is_no_answer_is_told(predict: Predict, photos: Path, tmp_path: Path) -> None:
    predict(photos)
    (tmp_path / "out" / "answers" / "part-00000001.parquet").write_text("half a file")
    with pytest.raises(DataError, match=r"part-00000001.parquet holds no answers of a job; delete it, and the same"):
        predict(photos)


# the script ---------------------------------------------------------------------------------------------------------


def script(packed: Experiment, photos: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = ["predict.py", "--config", str(packed.yaml), "--input", str(photos), "--out", str(out), *more]
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, text=True, stderr=subprocess.PIPE, start_new_session=True
    )


def wait_for(what: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_killed_it_goes_on_and_leaves_no_process(
    predict: Predict, packed: Experiment, photos: Path, tmp_path: Path
) -> None:
    for i in range(800):
        os.link(photos / "b" / "1.png", photos / "b" / f"copy_{i}.png")
    out, parts = tmp_path / "out", tmp_path / "out" / "answers"
    running = script(packed, photos, out, "--part-size", "4", "--workers", "2")
    wait_for(lambda: parts.is_dir() and len(list(parts.glob("part-*"))) >= 3)
    os.kill(running.pid, signal.SIGSTOP)
    other = script(packed, photos, out, "--part-size", "4")
    assert other.wait(120) == 1
    assert other.stderr and "another process writes to" in other.stderr.read()
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait(30) == -signal.SIGKILL
    wait_for(lambda: gone(running.pid), 30)
    before = {file.name: file.read_bytes() for file in parts.glob("part-*")}
    assert 3 <= len(before) < 206
    assert predict(photos, out=out) == 3
    predict(photos, out=tmp_path / "whole")
    assert answers(out) == answers(tmp_path / "whole")
    assert len(list(parts.iterdir())) == 206  # and no temporary file is left
    assert all((parts / name).read_bytes() == content for name, content in before.items())


def words(packed: Experiment, photos: Path, out: Path) -> list[str | Path]:
    """Work of 106 parts for two processes that say nothing but what went wrong."""
    for i in range(400):
        os.link(photos / "b" / "1.png", photos / "b" / f"copy_{i}.png")
    given = ["--config", packed.yaml, "--input", photos, "--out", out]
    return ["predict.py", *given, "--part-size", "4", "--workers", "2", "--quiet"]


def test_ctrl_c_is_one_line_while_its_workers_start(packed: Experiment, photos: Path, tmp_path: Path) -> None:
    running = begun(*words(packed, photos, tmp_path / "out"))
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    wait_for(lambda: len(children.read_text(encoding="utf-8").split()) == 3)  # one minds their shared memory
    time.sleep(0.5)  # they import
    assert ctrl_c(running) == (130, "", INTERRUPTED)
    wait_for(lambda: gone(running.pid), 30)


def test_ctrl_c_keeps_what_is_answered_and_the_same_command_goes_on(
    predict: Predict, packed: Experiment, photos: Path, tmp_path: Path
) -> None:
    parts = tmp_path / "out" / "answers"
    command = words(packed, photos, tmp_path / "out")
    running = begun(*command)
    wait_for(lambda: parts.is_dir() and len(list(parts.glob("part-*"))) >= 3)
    assert ctrl_c(running) == (130, "", INTERRUPTED)
    wait_for(lambda: gone(running.pid), 30)
    kept = {file.name: file.read_bytes() for file in parts.iterdir()}
    assert 3 <= len(kept) < 106 and all(name.startswith("part-") for name in kept)
    with begun(*command) as again:
        assert again.wait(120) == 3
    predict(photos, out=tmp_path / "whole")
    assert answers(tmp_path / "out") == answers(tmp_path / "whole")
    assert all((parts / name).read_bytes() == content for name, content in kept.items())


@pytest.mark.parametrize("flag", ["--workers", "--topk", "--part-size"])
def test_numbers_are_at_least_1(flag: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["predict.py", "--input", "a", "--out", "b", flag, "0"])
    monkeypatch.syspath_prepend(str(ROOT))
    import predict as verb

    with pytest.raises(SystemExit) as end:
        verb.main()
    assert end.value.code == 2
    assert f"{flag} must be at least 1, not 0" in capsys.readouterr().err
