"""HTTP client of one server: its answers, and the meaning of its errors."""

from __future__ import annotations

import hashlib
import http.client
import io
import ipaddress
import json
import os
import re
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 30.0  # s without any progress
OTHER = "Other"
MOST = 16_000_000  # bytes of an answer
NOT_IN_ADDRESS = re.compile(r"[^!-~]")  # in its path


class Unreachable(Exception):
    """No answer now. `status`: of HTTP, 0 where there was none; `seconds`: the server's Retry-After."""

    def __init__(self, reason: str, status: int = 0, seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.status, self.seconds = status, seconds


class Rejected(Exception):
    """The server will never answer this photo."""


class Refused(OSError):
    """The server refuses this device until something is changed; the message says what."""


def read_token() -> str:
    """The token in $OMMATIDIA_TOKEN, or in the file that $OMMATIDIA_TOKEN_FILE names; none: empty."""
    file = os.environ.get("OMMATIDIA_TOKEN_FILE")
    token = Path(file).read_text(encoding="utf-8").strip() if file else os.environ.get("OMMATIDIA_TOKEN", "")
    if not (token.isascii() and (token.isprintable())):
        raise Refused("the token must be printable ASCII; look at $OMMATIDIA_TOKEN or $OMMATIDIA_TOKEN_FILE")
    return token


class Link:
    """A connection to a server, kept open while it is used."""

    def __init__(self, url: str, token: str, bundle: Mapping[str, Any]) -> None:
        """bundle: what cascade.json says; the server must name the same species."""
        try:
            parts = urlsplit(url)
            if "@" in parts.netloc:
                raise Refused("--main takes no user and password; the server's token goes into $OMMATIDIA_TOKEN")
            host, port, secure = parts.hostname or "", parts.port, parts.scheme == "https"
            host.encode("idna")
            if not host.isprintable() or " " in host:
                raise ValueError("a host has no spaces")
            if wrong := NOT_IN_ADDRESS.search(parts.path):
                raise ValueError(f"{wrong[0]!r} in its path must be percent-encoded")
        except ValueError as error:
            raise Refused(f"--main {url!r} is no address: {error}") from error
        if not host or not (secure or (parts.scheme == "http" and loopback(host))):
            raise Refused(f"--main must be https://... (http:// only for this machine), not {url!r}")
        self.url, self._base = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        if secure:
            context = ssl.create_default_context()
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=TIMEOUT, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        self._bundle, self._space, self._sent, self._body = bundle, "", 0, io.BytesIO()

    @property
    def sent(self) -> int:
        """Bytes of photos sent so far, including running and failed requests."""
        return self._sent + self._body.tell()

    def greet(self) -> None:
        """Ask for the server's label space; Refused where it is not that of the bundle."""
        told = self._ask("GET", "/v1/about", b"", {})
        try:
            space, labels, experiment = str(told["label_space"]), set(told["labels"]), told["experiment"]
        except (KeyError, TypeError) as error:
            raise Unreachable(f"{self.url} answers something else than a label space") from error
        stages = self._bundle["stages"]
        last, mine = stages[-1], {label for stage in stages for label in stage["labels"] if label != OTHER}
        if OTHER in last["labels"]:  # no main to compare with: the server must know the caches' species
            foreign = f"knows no {min(lacking)!r}" if (lacking := mine - labels) else ""
        else:
            foreign = f"has {space}, not {last['label_hash']}" if space != last["label_hash"] else ""
        if foreign:
            what = f"the label space of {experiment} {foreign} as {self._bundle.get('experiment', 'the bundle')} here"
            raise Refused(f"{self.url}: {what}; ask a server of the same experiment")
        self._space = space

    def classify(self, photo: bytes, topk: int, name: str) -> dict[str, Any]:
        """The server's entry for this photo; it must be of these bytes and of the label space."""
        if not self._space:
            self.greet()
        headers = {"Content-Type": "application/octet-stream", "X-Request-ID": name, "Label-Space": self._space}
        told = self._ask("POST", f"/v1/classify?topk={topk}", photo, headers)
        try:
            [entry] = told["photos"]
            mine = entry["sha256"] == hashlib.sha256(photo).hexdigest() and told["label_space"] == self._space
            topk_ = [(one["label"], float(one["score"])) for one in entry["topk"]]
            row = {key: entry[key] for key in ("status", "failures", "species", "score", "stage", "infer_ms")}
        except (KeyError, TypeError, ValueError) as error:
            raise Unreachable(f"{self.url} answers something else than species ({error!r})") from error
        if not mine:
            raise Unreachable(f"{self.url} answers for another photo or label space")
        return {**row, "topk": topk_}

    def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        status, answered, text = self._exchange(method, self._base + path, body, {**self._headers, **headers})
        try:
            told = json.loads(text)
            why = str(told.get("error", "")) if isinstance(told, dict) else ""
        except ValueError:
            told, why = None, ""
        why = f"{self.url} answers {status}" + (f": {why}" if why else "")
        if status == 200 and isinstance(told, dict):
            return told
        if status in (413, 415, 422) and method == "POST":
            raise Rejected(why)
        if status == 409:
            self._space = ""  # main was deployed anew: the next try asks for its label space, and knows whether it fits
        if status in (200, 400, 408, 409, 425, 429) or status >= 500:
            after = answered or ""
            raise Unreachable(why, status, float(after) if after.isdecimal() else 0.0)
        raise Refused(f"{why}; mend it: what waits is kept")

    def _exchange(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, str | None, bytes]:
        """Status, Retry-After and text. A reused connection may have been closed meanwhile, so it is tried once more."""
        more = {**headers, "Content-Length": str(len(body))} if body else headers
        for fresh in (self._connection.sock is None, True):
            self._sent, self._body = self.sent, io.BytesIO(body)  # sent in blocks, TIMEOUT per block
            try:
                with suppress(BrokenPipeError, ConnectionResetError):  # it may answer before it has read all
                    self._connection.request(method, path, self._body if body else None, dict(more))
                response = self._connection.getresponse()
                text = response.read(MOST)
                if response.read(1):
                    self._connection.close()
                return response.status, response.headers.get("Retry-After"), text
            except (http.client.RemoteDisconnected, http.client.ResponseNotReady, ConnectionError) as error:
                self._connection.close()
                if fresh:
                    raise Unreachable(f"{self.url}: {_said(error)}") from error
            except (OSError, http.client.HTTPException) as error:  # no network, no such host, TLS, too slow
                self._connection.close()
                raise Unreachable(f"{self.url}: {_said(error)}") from error
        raise AssertionError

    def abort(self) -> None:
        """Abort an exchange of another thread."""
        if (open_socket := self._connection.sock) is not None:
            with suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)


def _said(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def loopback(host: str) -> bool:
    """Whether a name or address is this machine's own, which no other one reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
