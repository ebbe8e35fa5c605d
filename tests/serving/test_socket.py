"""On the wire: slow clients, those who leave, and the end of the server."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Callable

import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.serving.engine import Engine

from .served import until

Listening = Callable[..., tuple[int, Engine]]
HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def all_of(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    got = b""
    try:
        while more := connection.recv(65536):
            got += more
    except ConnectionResetError:
        pass
    return got


def alive(port: int) -> bool:
    with connect(port) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b'{"status":"ok"}' in all_of(connection)


def test_a_client_that_sends_its_body_slowly_gets_408(listening: Listening) -> None:
    port, _ = listening()
    with connect(port) as connection:
        start = time.monotonic()
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\nx")
        told = b""
        while not told.endswith(b"}"):
            told += connection.recv(65536)
        assert told.startswith(b"HTTP/1.1 408 ")
        assert b"the body did not come within 0.5 s and 1 s for each 10 kB of it" in told
        assert 0.4 < time.monotonic() - start < 15
        connection.sendall(b"x" * 10)
        all_of(connection)  # it is closed
    assert alive(port)


def test_a_slow_network_has_time_for_a_large_body(listening: Listening) -> None:
    port, _ = listening()
    with connect(port) as connection:
        connection.sendall(HEAD + b"Content-Length: 60000\r\n\r\n")
        for _ in range(6):  # 1.2 s in all, of the 0.5 + 6 that it may take
            connection.sendall(b"x" * 10_000)
            time.sleep(0.2)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_the_end_of_an_answer_is_not_held_back(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    received = H11Protocol.data_received

    def look(self: H11Protocol, data: bytes) -> None:
        found.append(self.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        received(self, data)

    monkeypatch.setattr(H11Protocol, "data_received", look)
    port, _ = listening()
    assert alive(port)
    assert found
    assert all(found)


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_a_client_that_drips_its_head_is_cut_off(listening: Listening, before: bytes) -> None:
    port, _ = listening()
    with connect(port) as connection:
        connection.sendall(before)
        if before:
            connection.recv(65536)
        start = time.monotonic()
        with pytest.raises(OSError):  # reset or broken pipe
            while time.monotonic() - start < 15:
                connection.sendall(b"P")
                time.sleep(0.05)
        assert time.monotonic() - start < 10
    assert alive(port)


def test_clients_that_leave_midway(listening: Listening, gate: threading.Event) -> None:
    port, engine = listening()
    for sent in (HEAD, HEAD + b"Content-Length: 9\r\n\r\nx"):
        with connect(port) as connection:
            connection.sendall(sent)
    with connect(port) as connection:
        connection.sendall(HEAD + b"Content-Length: 1\r\n\r\nx")
        until(lambda: engine.admitted == 1)
    gate.set()
    until(lambda: engine.admitted == 0)
    assert alive(port)


def test_too_many_large_bodies_at_once_are_429(listening: Listening) -> None:
    port, _ = listening(timeout=20)
    held = {connect(port): 200_000 - sent for sent in (190_000, 190_000, 150_000)}
    for connection, left in held.items():
        connection.sendall(HEAD + b"Content-Length: 200000\r\n\r\n" + b"x" * (200_000 - left))
    [refused], _, _ = select.select(held, [], [], 20)
    told = refused.recv(65536)
    assert told.startswith(b"HTTP/1.1 429 ")
    assert b"retry-after: 1" in told.lower()
    del held[refused]
    for connection, left in held.items():
        connection.sendall(b"x" * left)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.close()
    refused.close()
    assert alive(port)


def test_more_connections_than_allowed_are_503(listening: Listening) -> None:
    port, _ = listening(connections=3, timeout=20)
    idle = [connect(port) for _ in range(4)]
    with connect(port) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 503 ")
    for connection in idle:
        connection.close()
    until(lambda: alive(port))


def test_what_is_no_http_is_400(listening: Listening) -> None:
    port, _ = listening()
    with connect(port) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert all_of(connection).startswith(b"HTTP/1.1 400 ")
    assert alive(port)


def test_photos_that_were_taken_are_answered_before_the_end(
    make: Callable[..., tuple[object, Engine]], gate: threading.Event
) -> None:
    import uvicorn

    from pipeline.serving.connection import configured

    client, engine = make(timeout=20)
    server = uvicorn.Server(configured(client.app, engine.limits))  # type: ignore[attr-defined]
    server.config.port = 0
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    waiting = [connect(port) for _ in range(8)]
    for connection in waiting:
        connection.sendall(HEAD + b"Content-Length: 1\r\n\r\nx")
    until(lambda: engine.admitted == 8)
    server.should_exit = True
    time.sleep(0.3)
    with pytest.raises(OSError):  # nobody listens
        connect(port)
    gate.set()
    for connection in waiting:
        head, _, body = all_of(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert len(json.loads(body)["photos"]) == 1
    thread.join(20)
    assert not thread.is_alive()
