"""Queue of photos that wait for an answer, in one SQLite file with a size limit."""

from __future__ import annotations

import json
import math
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PAGE = 4096
SYNCHRONOUS = "full"  # a commit survives a power cut
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
create table if not exists faults (number integer primary key, n integer not null);
create index if not exists waiting on photos (tries, number) where final is null;
create index if not exists weights on photos (cost) where final is null;
create index if not exists decided on photos (number) where final is not null;
"""


class SpoolError(OSError):
    """The spool cannot be used here; the message says why and what to do."""


class Spool:
    """A photo is waiting (it has bytes) or decided (it has a final row), until that row is in the results.

    name: of the device, with a part drawn by chance that tells it from others of the same name.

    Every method is one transaction that is on the disk when it returns. One process at a time can open the file.
    """

    def __init__(self, path: Path, budget: int, policy: str, facts: Mapping[str, str]) -> None:
        """budget: bytes of the file and its journal; policy: which photo is dropped first; facts: whose photos these are."""
        self.path, self.budget, self.order = path, budget, POLICIES[policy]
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
            self.name = f"{facts['device']}-{self.fact('id', secrets.token_hex(4))}"

    def close(self) -> None:
        """Close the file for other processes."""
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
        """The stored value of this name; `value` is stored where there is none."""
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
        """Keys of all photos in the spool."""
        return {key for (key,) in self._db.execute("select key from photos")}

    def waiting(self) -> int:
        """Number of photos without an answer."""
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
        victims: dict[int, dict[str, Any]] = {}
        if held <= HELD * self.budget:
            return victims
        rows = self._db.execute(f"select number, cost, answer from photos where final is null order by {self.order}")
        while held > HELD * self.budget:
            number, cost, answer = rows.fetchone()
            victims[number] = json.loads(answer)
            held -= cost
        rows.close()
        return victims

    def next(self) -> tuple[int, dict[str, Any], bytes] | None:
        """Number, the caches' answer and the bytes of the next photo to send."""
        row = self._db.execute(
            "select number, answer, photo from photos natural join bytes where final is null order by tries, number limit 1"
        ).fetchone()
        return (row[0], json.loads(row[1]), row[2]) if row else None

    def faults(self, number: int) -> int:
        """Number of main's failures at this photo."""
        row = self._db.execute("select n from faults where number = ?", (number,)).fetchone()
        return int(row[0]) if row else 0

    def sent(self, number: int, size: int, fault: bool = False) -> None:
        """So many bytes went out in vain (fault: main failed at them); others are tried before this one is again."""
        with self._transaction():
            self._db.execute("update photos set tries = tries + 1 where number = ?", (number,))
            if fault:
                self._db.execute(
                    "insert into faults select number, 1 from photos where number = ? on conflict do update set n = n + 1",
                    (number,),
                )
            self._count(tries=1, sent_bytes=size)

    def decide(self, number: int, final: Mapping[str, Any], sent: int) -> None:
        """Remember the row of a photo that reached main with so many bytes; one that was decided before stays."""
        with self._transaction():
            self._count(tries=1, sent_bytes=sent, reached=1)
            self._decide(number, final)

    def _decide(self, number: int, final: Mapping[str, Any]) -> None:
        changed = self._db.execute(
            "update photos set final = ? where number = ? and final is null", (json.dumps(final), number)
        ).rowcount
        self._db.execute("delete from bytes where number = ?", (number,))
        self._count(**{str(final["status"]): changed})

    def decided(self) -> list[tuple[int, str, dict[str, Any]]]:
        """Number, key and row of the decided photos, whose rows belong into the results."""
        rows = self._db.execute("select number, key, final from photos where final is not null order by number")
        return [(number, key, json.loads(final)) for number, key, final in rows]

    def forget(self, numbers: Sequence[int]) -> None:
        """Remove photos whose rows are safe in the results."""
        with self._transaction():
            for table in ("photos", "faults"):
                self._db.executemany(f"delete from {table} where number = ?", [(number,) for number in numbers])

    def figures(self) -> dict[str, int]:
        """How many photos no cache answered, of those how many reached main, were answered, failed, wait; what that cost."""
        names = {"kept": "kept", "reached": "reached", "answered": "ok", "failed": "failed"}
        names |= {"sent_bytes": "sent_bytes", "requests": "tries"}
        return {name: int(self.fact(fact) or 0) for name, fact in names.items()} | {"waiting": self.waiting()}


def dropped(answer: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """The row of a photo that main will not answer: what its caches said, and why there is no more."""
    return {**answer, "status": "failed", "species": "", "failures": [f"not answered by main: {reason}"]}
