"""Network policy of all requests: User-Agent, rate, timeouts, retries, limits."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from pipeline import __version__
from pipeline.console import log
from pipeline.dataset.sources.pages import Get
from pipeline.errors import NetworkError, Refused


@dataclass(frozen=True)
class Policy:
    """Seconds, attempts, redirects and bytes; the default rate is what iNaturalist asks for (60 requests a minute)."""

    delay: float = 1.0  # between the starts of two requests, new attempts and redirects included
    connect_timeout: float = 10.0
    read_timeout: float = 60.0  # per read; the whole answer has `answer_timeout`
    answer_timeout: float = 300.0
    attempts: int = 6
    backoff: float = 2.0  # the first wait; each further one is twice as long
    longest_wait: float = 600.0  # a server that demands a longer one ends the run
    redirects: int = 5
    body_bytes: int = 100_000_000


class PoliteAdapter(HTTPAdapter):
    """Applies the policy to every request of a session and reads the whole answer, so that a truncated one is retried."""

    def __init__(
        self,
        policy: Policy,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(max_retries=0)
        self.policy, self.clock, self.sleep = policy, clock, sleep
        self.due = clock()

    def send(self, request: requests.PreparedRequest, *args: Any, **settings: Any) -> requests.Response:
        """The answer with its body read; NetworkError after the last attempt."""
        settings |= {"stream": True, "timeout": (self.policy.connect_timeout, self.policy.read_timeout)}
        last, asked = "", None
        for attempt in range(self.policy.attempts):
            if attempt:
                self._wait(f"{request.url}: {last}", asked, attempt)
            try:
                response = self._send_once(request, settings)
            except requests.exceptions.SSLError as error:
                raise NetworkError(f"{request.url}: no safe connection ({error})") from error
            except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
                last, asked = _in_short(error), None
                continue
            if response.status_code not in (408, 429) and response.status_code < 500:
                return response
            last, asked = f"status {response.status_code} {response.reason}".strip(), _retry_after(response)
        raise NetworkError(
            f"{request.url} gave no answer in {self.policy.attempts} attempts (last: {last}); "
            "run the same command later, it goes on where it was"
        )

    def _wait(self, why: str, asked: float | None, attempt: int) -> None:
        wait = asked if asked is not None else self.policy.backoff * 2 ** (attempt - 1)
        if wait > self.policy.longest_wait:
            raise NetworkError(f"{why}, and asks to wait {wait:.0f} s; run it again after that")
        log.info("  %s; asked again in %.0f s", why, wait)
        self.sleep(wait)

    def _send_once(self, request: requests.PreparedRequest, settings: dict[str, Any]) -> requests.Response:
        if (early := self.due - self.clock()) > 0:
            self.sleep(early)
        start = self.clock()
        self.due = start + self.policy.delay
        response = super().send(request, **settings)
        body = bytearray()
        for part in response.raw.stream(1 << 16, decode_content=True):
            body += part
            if len(body) > self.policy.body_bytes:
                response.close()
                raise Refused(f"{request.url} is larger than the limit of {self.policy.body_bytes:,} bytes")
            if self.clock() - start > self.policy.answer_timeout:
                response.close()
                raise requests.Timeout(f"not whole after {self.policy.answer_timeout:.0f} s")
        response.raw = io.BytesIO(body)
        return response


def _retry_after(response: requests.Response) -> float | None:
    """Seconds in Retry-After (a number or an HTTP date); none where it is missing."""
    header = response.headers.get("Retry-After")
    try:
        return Retry(retry_after_max=10**9).parse_retry_after(header) if header else None
    except urllib3.exceptions.InvalidHeader:
        return None


def _in_short(error: Exception) -> str:
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "time-out"
    if isinstance(error, urllib3.exceptions.HTTPError):
        return "the answer is cut or garbled"
    return "no connection"


def apply_policy(
    session: requests.Session,
    contact: str,
    policy: Policy,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Apply the policy to all requests of a session; `contact` (e-mail or page) goes into the User-Agent."""
    adapter = PoliteAdapter(policy, clock, sleep)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.max_redirects = policy.redirects
    session.headers["User-Agent"] = f"ommatidia/{__version__} ({contact})"


def getter(
    contact: str,
    policy: Policy,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Get:
    """A function from a URL to its body; Refused where the server refuses it."""
    session = requests.Session()
    apply_policy(session, contact, policy, clock, sleep)

    def get(url: str) -> bytes:
        try:
            response = session.get(url)
        except requests.TooManyRedirects as error:
            raise Refused(f"{url} leads in circles: more than {policy.redirects} redirects") from error
        except requests.RequestException as error:
            raise Refused(f"{url} cannot be asked for: {error}") from error
        if response.status_code != 200:
            said = f"status {response.status_code} {response.reason}".strip()
            raise Refused(f"{url} is not given: {said}", response.status_code)
        return response.content

    return get
