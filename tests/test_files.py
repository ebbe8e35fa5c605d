"""Files are whole or not there at all; stamps know what is up to date; names from outside are tame."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.files import (
    Stamp,
    alone,
    digest,
    listing_digest,
    read_json,
    replacing,
    run_once,
    safe_name,
    sha256,
    write_json,
    write_text,
)


def test_failure_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_kill_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path / "new") == []


def test_old_file_stands_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent
        assert temporary.suffix == ".parquet"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file.parquet"]


def test_killed_outright_its_leftover_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    if (child := os.fork()) == 0:
        with replacing(path) as temporary:
            temporary.write_text("a longer text, of which half")
            os._exit(9)  # no cleaning up, as after kill -9
    os.waitpid(child, 0)
    assert os.listdir(tmp_path) == [".file.tmp.txt"]
    with replacing(path) as temporary:
        assert temporary.read_text() == ""
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_two_who_write_the_same_file_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    second = threading.Thread(target=write_text, args=(path, "second"))
    with replacing(path) as temporary:
        temporary.write_text("fi")
        second.start()
        second.join(0.3)
        assert second.is_alive()
        assert temporary.read_text() == "fi"
        temporary.write_text("first")
        assert not path.exists()
    second.join(10)
    assert path.read_text() == "second"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_failed_writer_lets_the_waiting_one_write(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    second = threading.Thread(target=write_text, args=(path, "second"))
    with pytest.raises(RuntimeError), replacing(path):
        second.start()
        second.join(0.3)
        raise RuntimeError
    second.join(10)
    assert path.read_text() == "second"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_lock_ends_though_a_process_that_was_forked_meanwhile_lives_on(tmp_path: Path) -> None:
    with alone(tmp_path / "lock"):
        if (child := os.fork()) == 0:
            time.sleep(2)
            os._exit(0)
    with alone(tmp_path / "lock") as waited:
        assert not waited
    os.waitpid(child, 0)


def test_a_file_system_without_locks_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    write_text(tmp_path / "file.txt", "text")
    assert (tmp_path / "file.txt").read_text() == "text"


def test_json_goes_there_and_back_in_order_and_utf8(tmp_path: Path) -> None:
    data = {"Épeire": 2, "a": [1, None]}
    write_json(tmp_path / "x.json", data)
    assert "Épeire" in (tmp_path / "x.json").read_text(encoding="utf-8")
    assert list(read_json(tmp_path / "x.json", "list").items()) == list(data.items())


def test_missing_json_says_what_it_should_have_been(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no species list at .*x\.json"):
        read_json(tmp_path / "x.json", "species list")


@pytest.mark.parametrize("content", [b'{"a": [1,', b"\xff\xfe\x00bad", b""])
def test_broken_json_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.json cannot be read as the species list"):
        read_json(tmp_path / "x.json", "species list")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("Apis mellifera", "Apis mellifera"),
        ("..", "_"),
        (".", "_"),
        ("", "_"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a/b\\c", "a_b_c"),
        ("C:*?", "C___"),
        ("tab\tnul\0", "tab_nul_"),
        ("E\u0301peire", "\u00c9peire"),
        (" .hidden. ", "hidden"),
    ],
)
def test_safe_name(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@pytest.mark.parametrize("name", ["x" * 400, "é" * 400, "a" * 149 + ". b", "a" * 148 + "é" * 3])
def test_safe_name_is_short_and_stays_safe(name: str) -> None:
    safe = safe_name(name)
    assert 140 < len(safe.encode()) <= 150
    assert safe == safe_name(safe)


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": Path("x")}) == digest({"b": Path("x"), "a": 1})
    assert digest([1, 2]) != digest([2, 1])
    assert len(digest({})) == 12


def test_listing_digest_sees_new_changed_and_renamed_files_but_not_the_root(tmp_path: Path) -> None:
    def look(name: str, content: str, *, root: str = "a", time: int = 10**18) -> str:
        path = tmp_path / root / name
        write_text(path, content)
        os.utime(path, ns=(time, time))
        return listing_digest(tmp_path / root, [path])

    first = look("x", "12")
    assert look("x", "12", root="b") == first
    assert len({first, look("x", "123"), look("x", "12", time=10**18 + 1), look("y", "12")}) == 4


@pytest.fixture
def output(tmp_path: Path) -> Path:
    write_text(tmp_path / "out.txt", "result")
    return tmp_path / "out.txt"


def stamp(output: Path, **inputs: int) -> Stamp:
    return Stamp(output.parent / ".stamps" / "work.json", inputs, [output])


def test_stamp_is_fresh_only_after_it_was_written(output: Path) -> None:
    assert not stamp(output, a=1).fresh()
    stamp(output, a=1).write()
    assert stamp(output, a=1).fresh()
    stamp(output, a=1).clear()
    assert not stamp(output, a=1).fresh()


def test_stamp_notices_other_inputs(output: Path) -> None:
    stamp(output, a=1).write()
    assert not stamp(output, a=2).fresh()


def test_stamp_notices_edited_and_missing_outputs(output: Path) -> None:
    stamp(output, a=1).write()
    write_text(output, "edited")
    assert not stamp(output, a=1).fresh()
    write_text(output, "result")
    assert stamp(output, a=1).fresh()
    output.unlink()
    assert not stamp(output, a=1).fresh()


def test_stamp_notices_another_set_of_outputs(output: Path) -> None:
    first = stamp(output, a=1)
    first.write()
    assert not Stamp(first.path, {"a": 1}, [output, output.with_name("more.txt")]).fresh()


@pytest.mark.parametrize("content", ["", "{", "{}"])
def test_broken_stamp_is_not_fresh(output: Path, content: str) -> None:
    first = stamp(output, a=1)
    write_text(first.path, content)
    assert not first.fresh()


def test_work_is_done_once_and_a_failure_is_not_remembered(output: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ommatidia")
    done: list[int] = []
    run_once("eval", stamp(output, a=1), False, lambda: done.append(1))
    run_once("eval", stamp(output, a=1), False, lambda: done.append(2))
    assert (done, caplog.messages) == ([1], ["eval up to date"])
    with pytest.raises(ZeroDivisionError):
        run_once("eval", stamp(output, a=1), True, lambda: done.append(1 // 0))
    run_once("eval", stamp(output, a=1), False, lambda: done.append(3))
    assert done == [1, 3]


def test_the_same_work_at_the_same_time_is_done_once(output: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ommatidia")
    done: list[int] = []
    second = threading.Thread(target=run_once, args=("pack", stamp(output, a=1), False, lambda: done.append(2)))

    def work() -> None:
        second.start()
        second.join(0.3)
        assert second.is_alive()
        done.append(1)

    run_once("pack", stamp(output, a=1), False, work)
    second.join(10)
    assert done == [1]
    assert [line.split(" /")[0] for line in caplog.messages] == [
        "waiting for another process that holds",
        "pack up to date",
    ]


def test_sha256(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "abc")
    assert sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
