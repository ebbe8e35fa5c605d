"""Photos that would fill the memory once they are decoded: they take turns."""

from __future__ import annotations

import asyncio
import io
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.edge.cascade import Answer, Cascade, load_cascade
from pipeline.serving.engine import Engine, Turns, pixels_of

from .served import LIMITS, until


def drawn(side: int, kind: str = "png") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, kind)
    return file.getvalue()


class Work:
    """Stands for the cascade: what is in work, photos and pixels, and the most that ever was; nothing ends before `go`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.photos = self.pixels = self.most_photos = self.most_pixels = 0
        self.go, self._lock, real = threading.Event(), threading.Lock(), Cascade.classify

        def classify(cascade: Cascade, path: str, topk: int, data: bytes, **limits: Any) -> Answer:
            self._count(1, data)
            assert self.go.wait(20)
            try:
                return real(cascade, path, topk, data, **limits)
            finally:
                self._count(-1, data)

        monkeypatch.setattr(Cascade, "classify", classify)

    def _count(self, sign: int, data: bytes) -> None:
        with self._lock:
            self.photos += sign
            self.pixels += sign * pixels_of(data)
            self.most_photos, self.most_pixels = max(self.most_photos, self.photos), max(self.most_pixels, self.pixels)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


@pytest.fixture
def engine(packed: Path) -> Engine:
    """A photo may have 10 000 pixels, those in work 20 000."""
    return Engine(load_cascade(packed), replace(LIMITS, megapixels=0.01))


def answered(engine: Engine, work: Work, photos: list[bytes], together: int) -> list[Answer]:
    """All answers; the photos go on once so many are in work together."""

    async def ask() -> list[Answer]:
        asked = asyncio.create_task(engine.classify(photos, 1))
        await asyncio.to_thread(until, lambda: work.photos >= together)
        await asyncio.sleep(0.1)  # time for one too many
        work.go.set()
        return await asyncio.wait_for(asked, 20)

    return asyncio.run(ask())


def test_large_photos_take_turns(engine: Engine, work: Work) -> None:
    answers = answered(engine, work, [drawn(100)] * 8, together=2)
    assert [answer.status for answer in answers] == ["ok"] * 8
    assert (work.most_photos, work.most_pixels) == (2, 20_000)
    assert engine.turns.free == 20_000


def test_small_photos_are_all_in_work_together(engine: Engine, work: Work) -> None:
    answers = answered(engine, work, [drawn(20)] * 8, together=engine.workers)
    assert [answer.status for answer in answers] == ["ok"] * 8
    assert work.most_photos == min(8, engine.workers) >= 4


def test_photos_beyond_all_limits_and_those_that_are_none_hold_nobody_up(engine: Engine, work: Work) -> None:
    work.go.set()
    photos = [drawn(300), b"no photo", drawn(100), drawn(300, "jpeg"), drawn(20, "webp"), b"", drawn(90)]
    answers = answered(engine, work, photos, together=0)
    assert [answer.status for answer in answers] == ["failed", "failed", "ok", "failed", "ok", "failed", "ok"]
    assert "more than the limit of 0 megapixels" in answers[0].failures[0]
    assert engine.turns.free == 20_000


def test_a_request_that_is_given_up_leaves_room_for_others(engine: Engine, work: Work) -> None:
    async def ask() -> list[Answer]:
        given_up = asyncio.create_task(engine.classify([drawn(100)] * 8, 1))
        await asyncio.to_thread(until, lambda: work.photos == 2)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert engine.turns.free == 0  # what is decoded cannot be stopped
        asked = asyncio.create_task(engine.classify([drawn(100)] * 4, 1))
        work.go.set()
        return await asyncio.wait_for(asked, 20)

    assert [answer.status for answer in asyncio.run(ask())] == ["ok"] * 4
    until(lambda: engine.turns.free == 20_000)
    assert work.most_pixels == 20_000


def test_a_large_photo_is_not_passed_by_small_ones() -> None:
    turns, order, small = Turns(10), list[str](), threading.Event()

    def take(name: str, pixels: int) -> None:
        with turns.taken(pixels):
            order.append(name)
            small.wait(20)

    threads = [threading.Thread(target=take, args=given) for given in (("first", 6), ("large", 10), ("small", 1))]
    for n, thread in enumerate(threads):
        thread.start()
        until(lambda n=n: bool(order) if n == 0 else turns._next.locked())
    assert order == ["first"]
    small.set()
    for thread in threads:
        thread.join(20)
    assert order == ["first", "large", "small"]
    assert turns.free == 10


def test_decoded_photos_are_given_back_to_the_system() -> None:
    """glibc keeps what is smaller than 32 MB for the thread that freed it."""
    assert Image.core.get_block_size() > 32 << 20


def test_a_network_that_breaks_gives_its_pixels_back(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cascade, "classify", lambda *given, **limits: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(engine.classify([drawn(100)], 1))
    assert engine.turns.free == 20_000
