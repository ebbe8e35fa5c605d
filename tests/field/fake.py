"""A server on this machine that answers as serve.py does, and fails in as many ways as a test wants."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pipeline.edge.cascade import Cascade, load_cascade
from pipeline.edge.labels import label_hash

TOKEN = "0123456789abcdef0123456789abcdef"


class Fake(ThreadingHTTPServer):
    """`fault`: called before each request with its number and path; what it gives is sent instead of the answer."""

    daemon_threads = True

    def __init__(self, bundle: Path, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.cascade = load_cascade(bundle)
        self.main = Cascade(self.cascade.stages[-1:])
        self.labels = list(self.cascade.stages[-1].labels)
        self.fault: Callable[[int, str], Any] = lambda number, path: None
        self.asked: Counter[str] = Counter()  # SHA-256 of the photos that were answered
        self.requests, self.lock = 0, threading.Lock()
        self.pace = 0.0  # s for each MB of a body
        self.poison = b""  # a photo that it fails at

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *given: Any) -> None:
        """A client that was killed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version, server = "HTTP/1.1", Any

    def log_message(self, *given: Any) -> None: ...

    def _tell(self, status: int, told: Any, headers: dict[str, str]) -> None:
        text = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(text))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        server: Any = self.server
        length, photo = int(self.headers["Content-Length"]), bytearray()
        while len(photo) < length and (more := self.rfile.read(min(length - len(photo), 1_000_000))):
            time.sleep(server.pace)
            photo += more
        self._answer(bytes(photo))

    def _answer(self, photo: bytes) -> None:
        server: Any = self.server
        with server.lock:
            server.requests += 1
            fault = server.fault(server.requests, self.path)
        if fault == "cut":
            self.close_connection = True
        elif fault is not None:
            self._tell(*fault)
        elif self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._tell(401, {"error": "the token is missing or wrong"}, {})
        elif self.path == "/v1/about":
            told = {"experiment": "toy", "label_space": label_hash(server.labels), "labels": server.labels}
            self._tell(200, told, {})
        elif photo == server.poison:
            self._tell(500, {"error": "the network failed"}, {})
        else:
            with server.lock:
                server.asked[hashlib.sha256(photo).hexdigest()] += 1
                answer = asdict(server.main.classify("", 5, photo))
            entry = {**answer, "sha256": hashlib.sha256(photo).hexdigest()}
            entry["topk"] = [{"label": label, "score": score} for label, score in answer["topk"]]
            self._tell(200, {"label_space": label_hash(server.labels), "photos": [entry]}, {})


@contextmanager
def serving(bundle: Path, port: int = 0) -> Iterator[Fake]:
    """A fake that runs until the block ends."""
    server = Fake(bundle, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
