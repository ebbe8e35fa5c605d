"""A server on this machine that plays iNaturalist, as badly as a test wants."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Answer(NamedTuple):
    """One answer. cut: the connection ends after so many bytes of the body; hang: seconds before anything is said."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = {}
    cut: int | None = None
    hang: float = 0.0


class Server:
    """Answers paths from `pages`; a list of answers is given one after the other, the last one for ever."""

    def __init__(self) -> None:
        self.pages: dict[str, Answer | list[Answer]] = {}
        self.log: list[str] = []
        self.agents: set[str] = set()
        self.at_request: Callable[[str], None] = lambda path: None
        self._released = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def times(self) -> Counter[str]:
        """How often each path was asked for."""
        return Counter(self.log)

    def close(self) -> None:
        self._released.set()
        self._http.shutdown()
        self._http.server_close()

    def _next(self, path: str) -> Answer:
        page = self.pages.get(path, Answer(b"no such page", 404))
        if isinstance(page, Answer):
            return page
        return page.pop(0) if len(page) > 1 else page[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet, or each answer waits 40 ms

            def do_GET(self) -> None:
                server.log.append(self.path)
                server.agents.add(self.headers["User-Agent"])
                server.at_request(self.path)
                answer = server._next(self.path)
                if answer.hang:
                    server._released.wait(answer.hang)
                try:
                    self._give(answer)
                except OSError:  # the client is gone
                    self.close_connection = True

            def _give(self, answer: Answer) -> None:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body[: answer.cut])
                if answer.cut is not None:
                    self.wfile.flush()
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True

            def log_message(self, *given: object) -> None:
                pass

        return Handler


def check_list_page(groups: Mapping[str, list[str]], title: str = "Haute-Garonne Check List") -> bytes:
    """A page in the form that iNaturalist gives check lists."""
    parts = []
    for group, names in groups.items():
        items = "".join(
            f'<li class="clear"><span class="comname">A name</span> <span class="sciname">{name}</span></li>'
            for name in names
        )
        heading = f'<span class="othernames">(<span class="sciname">{group}</span>)</span>'
        parts.append(f'<h2 class="title">Some {heading}</h2>\n<ul class="listed_taxa plain">{items}</ul>')
    text = f'<html><head><meta charset="utf-8"><title>{title}</title></head><body>{"".join(parts)}</body></html>'
    return text.encode()
