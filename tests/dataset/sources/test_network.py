"""The network policy: rate, retries, what the server asks for, limits, and what is told when it gives up."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from email.utils import formatdate
from itertools import pairwise

import pytest

from pipeline import __version__
from pipeline.dataset.sources.pages import Get
from pipeline.errors import NetworkError, Refused

from .conftest import Clock
from .server import Answer, Server

Asking = Callable[..., Get]


def test_one_request_a_second_and_sixty_a_minute_by_default(server: Server, clock: Clock, asking: Asking) -> None:
    server.pages["/a"] = Answer(b"a")
    starts: list[float] = []
    server.at_request = lambda path: starts.append(clock.now)
    get = asking()
    for _ in range(130):
        assert get(f"{server.url}/a") == b"a"
    assert all(b - a >= 1 for a, b in pairwise(starts))
    assert max(sum(start <= moment < start + 60 for moment in starts) for start in starts) <= 60


def test_time_spent_elsewhere_counts_and_is_not_waited_for_again(server: Server, clock: Clock, asking: Asking) -> None:
    server.pages["/a"] = Answer(b"a")
    get = asking(delay=2.0)
    get(f"{server.url}/a")
    clock.now += 1.5
    get(f"{server.url}/a")
    clock.now += 5
    get(f"{server.url}/a")
    assert clock.sleeps == [0.5]


def test_user_agent_says_version_and_contact(server: Server, asking: Asking) -> None:
    server.pages["/a"] = Answer(b"a")
    asking()(f"{server.url}/a")
    assert server.agents == {f"ommatidia/{__version__} (test@example.org)"}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again_after_longer_and_longer_waits(
    server: Server, clock: Clock, asking: Asking, status: int
) -> None:
    server.pages["/a"] = [Answer(status=status)] * 3 + [Answer(b"at last")]
    assert asking(delay=0.0)(f"{server.url}/a") == b"at last"
    assert clock.sleeps == [2, 4, 8]


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_is_obeyed(server: Server, clock: Clock, asking: Asking, status: int) -> None:
    server.pages["/a"] = [Answer(status=status, headers={"Retry-After": "37"}), Answer(b"a")]
    assert asking(delay=0.0)(f"{server.url}/a") == b"a"
    assert clock.sleeps == [37]


def test_retry_after_as_a_date_is_obeyed(server: Server, clock: Clock, asking: Asking) -> None:
    at = formatdate(time.time() + 90, usegmt=True)
    server.pages["/a"] = [Answer(status=429, headers={"Retry-After": at}), Answer(b"a")]
    assert asking(delay=0.0)(f"{server.url}/a") == b"a"
    assert clock.sleeps == [pytest.approx(90, abs=3)]


def test_retry_after_that_is_neither_is_not_heeded(server: Server, clock: Clock, asking: Asking) -> None:
    server.pages["/a"] = [Answer(status=429, headers={"Retry-After": "soon"}), Answer(b"a")]
    assert asking(delay=0.0)(f"{server.url}/a") == b"a"
    assert clock.sleeps == [2]


def test_retry_after_of_a_day_ends_the_run_and_says_so(server: Server, clock: Clock, asking: Asking) -> None:
    server.pages["/a"] = Answer(status=429, headers={"Retry-After": "86400"})
    with pytest.raises(NetworkError, match="status 429 .*asks to wait 86400 s; run it again after that"):
        asking()(f"{server.url}/a")
    assert clock.sleeps == []


def test_a_server_that_stays_broken_is_left_after_six_attempts(server: Server, clock: Clock, asking: Asking) -> None:
    server.pages["/a"] = Answer(status=500)
    words = r"/a gave no answer in 6 attempts \(last: status 500 .*\); run the same command later, it goes on where"
    with pytest.raises(NetworkError, match=words) as caught:
        asking(delay=0.0)(f"{server.url}/a")
    assert not isinstance(caught.value, Refused)
    assert server.times() == {"/a": 6}
    assert clock.sleeps == [2, 4, 8, 16, 32]


def test_new_attempts_keep_the_rate_too(server: Server, clock: Clock, asking: Asking) -> None:
    server.pages["/a"] = [Answer(status=429, headers={"Retry-After": "0"}), Answer(b"a")]
    asking(delay=10.0)(f"{server.url}/a")
    assert sum(clock.sleeps) == 10


def test_a_silent_server_is_a_time_out_and_is_asked_again(server: Server, asking: Asking) -> None:
    server.pages["/a"] = [Answer(b"late", hang=5), Answer(b"a")]
    assert asking(read_timeout=0.1)(f"{server.url}/a") == b"a"
    server.pages["/b"] = Answer(b"late", hang=5)
    with pytest.raises(NetworkError, match="2 attempts .last: time-out."):
        asking(read_timeout=0.1, attempts=2)(f"{server.url}/b")


def test_an_answer_that_drips_for_ever_is_a_time_out(server: Server, clock: Clock, asking: Asking) -> None:
    def slowly(path: str) -> None:
        clock.now += 200

    server.pages["/a"] = Answer(b"a" * 10)
    server.at_request = slowly
    with pytest.raises(NetworkError, match="time-out"):
        asking(answer_timeout=100.0)(f"{server.url}/a")


def test_a_cut_body_is_asked_for_again(server: Server, asking: Asking) -> None:
    server.pages["/a"] = [Answer(b"whole" * 1000, cut=1234), Answer(b"whole" * 1000)]
    assert asking()(f"{server.url}/a") == b"whole" * 1000
    server.pages["/b"] = Answer(b"whole" * 1000, cut=0)
    with pytest.raises(NetworkError, match="the answer is cut or garbled"):
        asking()(f"{server.url}/b")


def test_a_garbled_body_is_asked_for_again(server: Server, asking: Asking) -> None:
    headers = {"Content-Encoding": "gzip"}
    server.pages["/a"] = [Answer(b"no gzip", headers=headers), Answer(gzip.compress(b"whole"), headers=headers)]
    assert asking()(f"{server.url}/a") == b"whole"


def test_no_server_at_all(server: Server, asking: Asking) -> None:
    url = server.url
    server.close()
    with pytest.raises(NetworkError, match="last: no connection"):
        asking()(f"{url}/a")


def test_redirects_are_followed_at_the_same_rate(server: Server, clock: Clock, asking: Asking) -> None:
    server.pages |= {"/a": Answer(status=301, headers={"Location": "/b"}), "/b": Answer(b"b")}
    assert asking()(f"{server.url}/a") == b"b"
    assert clock.sleeps == [pytest.approx(1)]


def test_a_redirect_loop_is_refused_at_once(server: Server, asking: Asking) -> None:
    server.pages |= {f"/{a}": Answer(status=302, headers={"Location": f"/{b}"}) for a, b in ("ab", "ba")}
    with pytest.raises(Refused, match="/a leads in circles: more than 5 redirects"):
        asking()(f"{server.url}/a")
    assert sum(server.times().values()) == 6


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a"])
def test_a_redirect_to_a_file_is_refused(server: Server, asking: Asking, target: str) -> None:
    server.pages["/a"] = Answer(status=302, headers={"Location": target})
    with pytest.raises(Refused, match="cannot be asked for"):
        asking()(f"{server.url}/a")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_refusal_is_not_asked_again(server: Server, asking: Asking, status: int) -> None:
    server.pages["/a"] = Answer(b"<html>", status=status)
    with pytest.raises(Refused, match=f"/a is not given: status {status}") as caught:
        asking()(f"{server.url}/a")
    assert caught.value.status == status
    assert server.times() == {"/a": 1}


@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_above_the_limit_is_refused_before_it_fills_the_memory(
    server: Server, asking: Asking, packed: bool
) -> None:
    body = b"a" * 1_000_000
    page = Answer(gzip.compress(body), headers={"Content-Encoding": "gzip"}) if packed else Answer(body)
    server.pages["/a"] = page
    with pytest.raises(Refused, match="/a is larger than the limit of 200,000 bytes"):
        asking(body_bytes=200_000)(f"{server.url}/a")
    assert asking(body_bytes=1_000_000)(f"{server.url}/a") == body
