"""The spool: what is dropped, what it weighs, whose it is."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.field.spool import HELD, SMALLEST, Spool, SpoolError

FACTS = {"experiment": "toy", "bundle": "abc", "device": "pi"}
MB = 1_000_000


def answer(path: str) -> dict[str, Any]:
    return {"path": path, "status": "ok", "species": "unknown", "failures": [], "score": 0.5, "infer_ms": {}}


@pytest.fixture
def spool(tmp_path: Path) -> Callable[..., Spool]:
    def make(policy: str = "newest", budget: int = SMALLEST, **facts: str) -> Spool:
        return Spool(tmp_path / "r.csv.spool", budget, policy, {**FACTS, **facts})

    return make


def weight(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def told(spool: Spool) -> dict[str, int]:
    """Its figures but for zeros."""
    return {name: n for name, n in spool.figures().items() if n}


def drain(spool: Spool) -> list[str]:
    """Answer what waits; the paths in the order in which they are sent."""
    paths = []
    while found := spool.next():
        number, kept, photo = found
        assert photo == kept["path"].encode() * 100_000
        paths.append(kept["path"])
        spool.decide(number, {**kept, "species": "Apis"}, len(photo))
    return paths


@pytest.mark.parametrize(
    ("policy", "left"), [("newest", "abcdef"), ("oldest", "efghij"), ("least-certain", "acefgh")]
)  # 6 photos of 0.4 MB fit into 70 % of 4 MB
def test_what_is_dropped_first(spool: Callable[..., Spool], policy: str, left: str) -> None:
    one = spool(policy)
    scores = dict(zip("abcdefghij", [0.9, 0.2, 0.5, 0.3, 0.8, 0.7, 0.6, 0.95, 0.1, 0.4], strict=True))
    for path, score in scores.items():
        one.put(path, answer(path), score, path.encode() * 400_000)
    gone = {row["path"]: row for _, _, row in one.decided()}
    assert set(scores) - set(gone) == set(left)
    for row in gone.values():
        assert (row["status"], row["species"]) == ("failed", "")
        assert row["failures"] == ["not answered by main: the storage budget was used up"]
    assert told(one) == {"kept": 10, "failed": 4, "waiting": 6}
    one.close()


def test_a_photo_less_certain_than_all_others_costs_none_of_them(spool: Callable[..., Spool]) -> None:
    one = spool("least-certain")
    for path in "abcdef":
        one.put(path, answer(path), 0.5, b"x" * 400_000)
    one.put("large", answer("large"), 0.4, b"x" * 900_000)
    assert [key for _, key, _ in one.decided()] == ["large"]
    one.put("sure", answer("sure"), 0.9, b"x" * 900_000)
    assert [key for _, key, _ in one.decided()] == ["a", "b", "large"]
    one.close()


def test_a_photo_that_is_too_large_for_the_budget(spool: Callable[..., Spool]) -> None:
    one = spool()
    one.put("a", answer("a"), 0.5, b"x" * 1_100_000)
    [(_, _, row)] = one.decided()
    assert row["failures"] == ["not answered by main: its 1100000 bytes are too many for the storage budget"]
    one.close()


@pytest.mark.parametrize("policy", ["newest", "oldest", "least-certain"])
def test_the_files_never_outgrow_the_budget(spool: Callable[..., Spool], tmp_path: Path, policy: str) -> None:
    draw, one = random.Random(0), spool(policy)
    heaviest = 0
    for i in range(100):
        size = int(10 ** draw.uniform(2, 6.1))
        one.put(f"{i}", answer(f"{i}"), draw.random(), draw.randbytes(size))
        heaviest = max(heaviest, weight(tmp_path))
        if draw.random() < 0.3 and (found := one.next()):
            one.sent(found[0], 10)
            one.decide(found[0], answer("x"), size)
            heaviest = max(heaviest, weight(tmp_path))
        if draw.random() < 0.1:
            one.forget([number for number, _, _ in one.decided()])
            heaviest = max(heaviest, weight(tmp_path))
    one.close()
    assert HELD * SMALLEST / 2 < heaviest <= SMALLEST


def test_what_waits_is_there_again_and_in_order(spool: Callable[..., Spool]) -> None:
    one = spool()
    for path in "abc":
        one.put(path, answer(path), 0.5, path.encode() * 100_000)
    number, _, _ = one.next() or (0, {}, b"")
    one.sent(number, 5)  # in vain: the others go first
    one.close()
    again = spool()
    assert again.keys() == {"a", "b", "c"}
    assert drain(again) == ["b", "c", "a"]
    assert told(again) == {"kept": 3, "reached": 3, "answered": 3, "sent_bytes": 300_005, "requests": 4}
    again.forget([number for number, _, _ in again.decided()])
    assert again.keys() == set()
    again.close()


def test_an_answer_that_comes_after_the_photo_was_dropped_changes_nothing(spool: Callable[..., Spool]) -> None:
    one = spool("oldest")
    one.put("a", answer("a"), 0.5, b"x" * 900_000)
    number, kept, _ = one.next() or (0, {}, b"")
    for path in "bcd":
        one.put(path, answer(path), 0.5, b"x" * 900_000)
    one.decide(number, {**kept, "species": "Apis"}, 900_000)
    rows = {key: row for _, key, row in one.decided()}
    assert (rows["a"]["status"], rows["a"]["species"]) == ("failed", "")
    assert told(one) == {
        "kept": 4, "reached": 1, "failed": 1, "waiting": 3, "sent_bytes": 900_000, "requests": 1,
    }  # fmt: skip
    one.close()


@pytest.mark.parametrize("fact", ["experiment", "bundle", "device"])
def test_a_spool_of_something_else_is_refused_by_name(spool: Callable[..., Spool], fact: str) -> None:
    spool().close()
    with pytest.raises(SpoolError, match=f"holds photos of {fact} {FACTS[fact]}, this is {fact} other"):
        spool(**{fact: "other"})
    spool().close()


def test_only_one_process_at_a_time(spool: Callable[..., Spool]) -> None:
    one = spool()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        spool()
    one.close()


def test_two_devices_of_one_name_are_told_apart_for_ever(tmp_path: Path) -> None:
    names = []
    for file in ("a", "b", "a"):
        one = Spool(tmp_path / file, SMALLEST, "newest", FACTS)
        names.append(one.name)
        one.close()
    assert names[0] == names[2] != names[1]
    assert all(name.startswith("pi-") for name in names)


def test_faults_are_counted_until_the_photo_is_forgotten(spool: Callable[..., Spool]) -> None:
    one = spool()
    one.put("a", answer("a"), 0.5, b"x")
    number, kept, _ = one.next() or (0, {}, b"")
    assert [one.faults(number), one.sent(number, 1, True), one.sent(number, 1), one.sent(number, 1, True)] == [0] + [
        None
    ] * 3
    assert one.faults(number) == 2
    one.decide(number, kept, 1)
    one.forget([number])
    one.sent(number, 1, True)  # dropped while it was on its way
    assert one.faults(number) == 0
    one.close()


def test_what_waits_makes_nothing_slower(spool: Callable[..., Spool]) -> None:
    """Each question that is asked for each photo is answered by an index: none reads, or sorts, all that waits."""
    one = spool()
    asked: list[str] = []
    one._db.set_trace_callback(asked.append)
    one.put("a", answer("a"), 0.5, b"x")
    number, kept, _ = one.next() or (0, {}, b"")
    one.decide(number, kept, 1)
    one.forget([number for number, _, _ in one.decided()])
    one.waiting()
    one._db.set_trace_callback(None)
    plans = {
        text: " ".join(row[3] for row in one._db.execute(f"explain query plan {text}"))
        for text in asked
        if text.startswith(("select", "update", "delete")) and "photos" in text
    }
    assert len(plans) >= 5
    for text, plan in plans.items():
        assert "USING" in plan, (text, plan)
        assert "TEMP B-TREE" not in plan, (text, plan)
    one.close()
