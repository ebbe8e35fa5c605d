"""The thread that sends stored photos: back-off while the server is away, each answer merged exactly once."""

from __future__ import annotations

import os
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .link import Link, Refused, Rejected, Unreachable
from .spool import Spool, dropped

FIRST, LONGEST, ASKED = 1.0, 300.0, 3600.0  # s: the first and the longest pause; upper limit of Retry-After
PATIENCE = 60.0  # s without progress after the last photo
FAULTS, MOST = (408, 500), 50  # status codes that the photo itself may cause; after so many of them it has failed
UNKNOWN = "unknown"
NOT_SAFE = re.compile(r"[^\w.-]", re.ASCII)  # in a request's id


class Sender:
    """Receives the answers of the caches. Every access to the spool and the results is under one lock.

    A photo's row is written, and flushed to the disk, before the spool forgets it; a process that is killed between the
    two finds the row in the results when it starts again.
    """

    def __init__(
        self,
        spool: Spool,
        link: Link,
        out: Path,
        topk: int,
        write: Callable[[Mapping[str, Any]], None],
        account: Callable[[bool], object],
    ) -> None:
        """out: the results file, into which `write` puts a row; account: to bring up to date, or (True) soon."""
        self.spool, self.link, self.out, self.topk = spool, link, out, topk
        self._write, self._account = write, account
        self._lock = threading.RLock()
        self._news = threading.Event()  # there may be a photo to send
        self._wake = threading.Event()  # ends a pause
        self._changed = threading.Event()  # a photo was decided, or the thread has ended
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._ended = False
        self._failures = 0  # of requests, in a row
        self._said = ""  # the last message
        self._error: BaseException | None = None

    def start(self) -> None:
        """Start sending; answers from before a kill are merged first."""
        with self._lock:
            self._merge()
        self._thread.start()

    def take(self, answer: Any, key: str) -> None:
        """Write the row of a photo that a cache answered; store other photos."""
        row = asdict(answer)
        with self._lock:
            if self._error and not isinstance(self._error, Refused):  # refused: the caches go on
                raise self._error
            self._account(True)
            if answer.status != "ok" or answer.species != UNKNOWN:
                self._write(row)
                return
            try:
                photo = Path(answer.path).read_bytes()
            except OSError as error:
                self._write(dropped(row, f"it could not be kept: {error.strerror}"))
                return
            self.spool.put(key, row, answer.score, photo)
            self._merge()
        self._news.set()

    def drain(self) -> None:
        """Wait until everything is answered or progress stops; raises the error that ended the thread."""
        if isinstance(self._error, Refused):
            self._error = None  # it is asked once more
        self._failures = 0
        self._wake.set()
        last, before = time.monotonic(), (-1, -1)
        while self._thread.is_alive() and not self._error:
            with self._lock:
                waiting = self.spool.waiting()
            if (now := (waiting, self.link.sent)) != before:
                last, before = time.monotonic(), now
            if not waiting or time.monotonic() - last > PATIENCE:
                break
            self._changed.wait(0.2)
            self._changed.clear()
        if self._error:
            raise self._error

    def stop(self) -> None:
        """Stop sending; waiting photos stay stored."""
        self._ended = True
        self._news.set()
        self._wake.set()
        self.link.abort()
        if self._thread.is_alive():
            self._thread.join(5)

    def _work(self) -> None:
        try:
            while not self._ended:
                self._step()
        except BaseException as error:  # noqa: BLE001  # raised again in the thread that waits
            self._error = error
            print(f"error: {error}; nothing is sent any more", file=sys.stderr)
        self._changed.set()

    def _step(self) -> None:
        with self._lock:
            found = None if self._ended else self.spool.next()
            if found is None and not self._ended:
                self._account(False)
        if found is None:
            self._news.wait()
            self._news.clear()
            return
        number, answer, photo = found
        before = self.link.sent
        try:
            told = self.link.classify(photo, self.topk, f"{NOT_SAFE.sub('_', self.spool.name)}-{number}")
            final = {**answer, **told, "infer_ms": {**told["infer_ms"], **answer["infer_ms"]}}
        except Rejected as error:
            final = dropped(answer, str(error))
        except (Unreachable, Refused) as error:
            sent = self.link.sent - before
            fault = sent > 0 and isinstance(error, Unreachable) and error.status in FAULTS
            with self._lock:
                faults = 0 if self._ended else self.spool.faults(number) + fault
            if faults < MOST:
                self._pause(number, sent, fault, error)
                return
            final = dropped(answer, f"main failed at it {faults} times: {error}")
        with self._lock:
            if not self._ended:
                self.spool.decide(number, final, self.link.sent - before)
                self._merge()
                self._account(True)
        self._error, self._failures, self._said = None, 0, ""
        self._changed.set()

    def _pause(self, number: int, sent: int, fault: bool, error: Unreachable | Refused) -> None:
        with self._lock:
            if self._ended:
                return
            if sent:
                self.spool.sent(number, sent, fault)
                self._account(True)
        if isinstance(error, Refused):
            self._error, pause, said = error, LONGEST, f"error: {error}"
        else:
            pause = min(LONGEST, FIRST * 2 ** min(self._failures, 20)) * random.uniform(0.5, 1)
            pause, said = max(pause, min(error.seconds, ASKED)), f"{error}; photos are kept until it answers"
            self._failures += 1
        if said != self._said:
            self._said = said
            print(said, file=sys.stderr)
        self._wake.wait(pause)  # monotonic: no clock is asked
        self._wake.clear()

    def _merge(self) -> None:
        decided = self.spool.decided()
        if not decided:
            return
        for _, _, row in decided:
            self._write(row)
        file = os.open(self.out, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
        self.spool.forget([number for number, _, _ in decided])
