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
    assert "4 failed, 6 wait" in one.report(10)
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


def test_a_budget_that_is_too_small(spool: Callable[..., Spool]) -> None:
    with pytest.raises(SpoolError, match=r"--budget takes at least 4 \(MB\)"):
        spool(budget=SMALLEST - 1)


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
    assert "main: 3 of 4 photos (communication rate 75.0%): 3 answered, 0 failed, 0 wait; 0.30 MB" in again.report(4)
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
    assert "0 answered, 1 failed, 3 wait" in one.report(4)
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
