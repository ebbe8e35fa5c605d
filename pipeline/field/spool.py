"""Photos that wait for an answer, in one SQLite file that stays within a budget."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PAGE = 4096
SYNCHRONOUS = "full"  # what is committed survives a power cut
SMALLEST = 4_000_000  # bytes of a budget
HELD, LARGEST = (
    0.7,
    0.25,
)  # shares of the budget: all photos; one photo, which is in the journal too while it is written
POLICIES = {"newest": "number desc", "oldest": "number", "least-certain": "score, number"}
SCHEMA = """
create table if not exists facts (name text primary key, value) without rowid;
create table if not exists photos (
  number integer primary key autoincrement, key text not null unique, score real not null, tries integer not null
  default 0, cost integer not null, answer text not null, final text
);
create table if not exists bytes (number integer primary key, photo blob not null);
"""


class SpoolError(OSError):
    """The spool cannot be used for what is asked; the message says why and what to do."""


class Spool:
    """A photo waits (it has bytes), or it is decided (it has a final row) until that row is in the results.

    Every method is one transaction that is on the disk when it returns. One process at a time can open the file.
    """

    def __init__(self, path: Path, budget: int, policy: str, facts: Mapping[str, str]) -> None:
        """budget: bytes of the file and its journal; policy: which photo is dropped first; facts: whose photos these are."""
        if budget < SMALLEST:
            raise SpoolError(f"a spool of {budget} bytes is too small; --budget takes at least {SMALLEST / 1e6:g} (MB)")
        self.path, self.budget, self.order, self.device = path, budget, POLICIES[policy], facts["device"]
        self._db = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False)
        try:
            self._open(facts)
        except BaseException:
            self._db.close()
            raise

    def _open(self, facts: Mapping[str, str]) -> None:
        for pragma in (
            f"page_size={PAGE}",
            "locking_mode=exclusive",
            "journal_mode=wal",
            f"synchronous={SYNCHRONOUS}",
            "wal_autocheckpoint=16",
            f"max_page_count={int((HELD + 0.05) * self.budget) // PAGE}",
        ):
            self._db.execute(f"pragma {pragma}").fetchall()
        with self._transaction():
            for statement in SCHEMA.split(";"):
                self._db.execute(statement)
            for name, value in facts.items():
                known = self.fact(name, value)
                if known != value:
                    raise SpoolError(
                        f"the spool {self.path} holds photos of {name} {known}, this is {name} {value}; "
                        "name another --out, or send them with what they were taken with"
                    )

    def close(self) -> None:
        """Let others open it."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def fact(self, name: str, value: Any = None) -> Any:
        """What is known under this name; `value` is remembered where nothing was."""
        if value is not None:
            self._db.execute("insert or ignore into facts values (?, ?)", (name, value))
        row = self._db.execute("select value from facts where name = ?", (name,)).fetchone()
        return row[0] if row else None

    def _count(self, **more: int) -> None:
        for name, n in more.items():
            self._db.execute(
                "insert into facts values (?1, ?2) on conflict do update set value = value + ?2", (name, n)
            )

    def keys(self) -> set[str]:
        """Of all photos that are here."""
        return {key for (key,) in self._db.execute("select key from photos")}

    def waiting(self) -> int:
        """How many photos have no answer yet."""
        return int(self._db.execute("select count(*) from photos where final is null").fetchone()[0])

    def put(self, key: str, answer: Mapping[str, Any], score: float, photo: bytes) -> None:
        """Keep a photo that its caches answered like this; what the budget has no room for is decided as failed."""
        text = json.dumps(answer)
        cost = (
            (math.ceil(len(photo) / (PAGE - 4)) + 1) * PAGE + 2 * (len(text) + len(key)) + 256
        )  # at most, in whole pages
        with self._transaction():
            number = self._db.execute(
                "insert into photos (key, score, cost, answer) values (?, ?, ?, ?)",
                (key, score, cost, text),
            ).lastrowid
            assert number is not None
            self._count(kept=1)
            if cost > LARGEST * self.budget:
                self._decide(number, dropped(answer, f"its {len(photo)} bytes are too many for the storage budget"))
            elif number not in (victims := self._victims()):
                for victim, told in victims.items():
                    self._decide(victim, dropped(told, "the storage budget was used up"))
                self._db.execute("insert into bytes values (?, ?)", (number, photo))
            else:
                self._decide(number, dropped(answer, "the storage budget was used up"))
        self._db.execute("pragma wal_checkpoint(truncate)").fetchall()

    def _victims(self) -> dict[int, dict[str, Any]]:
        """Photos to drop, in order, until the others fit."""
        (held,) = self._db.execute("select sum(cost) from photos where final is null").fetchone()
        victims = {}
        rows = self._db.execute(f"select number, cost, answer from photos where final is null order by {self.order}")
        while held > HELD * self.budget:
            number, cost, answer = rows.fetchone()
            victims[number] = json.loads(answer)
            held -= cost
        rows.close()
        return victims

    def next(self) -> tuple[int, dict[str, Any], bytes] | None:
        """Number, the caches' answer and the bytes of the photo to ask about now."""
        row = self._db.execute(
            "select number, answer, photo from photos natural join bytes order by tries, number limit 1"
        ).fetchone()
        return (row[0], json.loads(row[1]), row[2]) if row else None

    def sent(self, number: int, size: int) -> None:
        """So many bytes went out for this photo; others are tried before it is tried again."""
        with self._transaction():
            self._db.execute("update photos set tries = tries + 1 where number = ?", (number,))
            self._count(tries=1, sent_bytes=size)

    def decide(self, number: int, final: Mapping[str, Any], sent: int) -> None:
        """Remember the row that a photo gets after so many bytes were sent; one that was decided before stays."""
        with self._transaction():
            self._count(tries=1, sent_bytes=sent)
            self._decide(number, final)

    def _decide(self, number: int, final: Mapping[str, Any]) -> None:
        changed = self._db.execute(
            "update photos set final = ? where number = ? and final is null", (json.dumps(final), number)
        ).rowcount
        self._db.execute("delete from bytes where number = ?", (number,))
        self._count(**{str(final["status"]): changed})

    def decided(self) -> list[tuple[int, str, dict[str, Any]]]:
        """Number, key and row of the photos whose rows must come into the results."""
        rows = self._db.execute("select number, key, final from photos where final is not null order by number")
        return [(number, key, json.loads(final)) for number, key, final in rows]

    def forget(self, numbers: Sequence[int]) -> None:
        """Their rows are safe in the results."""
        with self._transaction():
            self._db.executemany("delete from photos where number = ?", [(number,) for number in numbers])

    def report(self, photos: int) -> str:
        """What went to main, of so many photos in all."""
        names = ("kept", "tries", "sent_bytes", "ok", "failed")
        kept, tries, size, ok, failed = (int(self.fact(name) or 0) for name in names)
        rate = f" (communication rate {kept / photos:.1%})" if photos else ""
        sent = f"{ok} answered, {failed} failed, {self.waiting()} wait; {size / 1e6:.2f} MB sent in {tries} requests"
        return f"main: {kept} of {photos} photos{rate}: {sent}"


def dropped(answer: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """The row of a photo that main will not answer: what its caches said, and why there is no more."""
    return {**answer, "status": "failed", "species": "", "failures": [f"not answered by main: {reason}"]}
