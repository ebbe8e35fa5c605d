"""HTTP connections with timeouts: clients that send or read too slowly are disconnected."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

from fastapi import FastAPI
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.errors import ConfigError
from pipeline.serving.limits import Limits


def configured(app: FastAPI, limits: Limits, certificate: tuple[Path, Path] | None = None) -> Config:
    """uvicorn's configuration; an unusable certificate is a ConfigError."""
    settings = Config(
        app,
        http=impatient(limits.timeout),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=int(2 * limits.timeout),
        ssl_certfile=certificate and certificate[0],
        ssl_keyfile=certificate and certificate[1],
    )
    try:
        settings.load()
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"certificate and key cannot be used: {error}") from error
    return settings


def impatient(seconds: float) -> type[H11Protocol]:
    """uvicorn's protocol with the time limits that it lacks; the application limits the body."""

    class Impatient(H11Protocol):
        _reading: asyncio.TimerHandle | None = None
        _writing: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            # asyncio does this only for sockets that name their protocol; without it the end of an answer, written apart
            # from its head, waits some 40 ms for the client's acknowledgement (RFC 896, RFC 1122 section 4.2.3.4)
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._reading = self.loop.call_later(seconds, transport.abort)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                _stop(self._reading)
                self._reading = None
            elif self._reading is None:  # the head of the next request has begun
                self._reading = self.loop.call_later(seconds, self.transport.abort)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._writing = self._writing or self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            _stop(self._writing)
            self._writing = None

        def timeout_keep_alive_handler(self) -> None:
            if self.transport.get_write_buffer_size():
                self.transport.abort()  # close() would wait for a client who does not read
            super().timeout_keep_alive_handler()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            _stop(self._reading, self._writing)

    return Impatient


def _stop(*timers: asyncio.TimerHandle | None) -> None:
    for timer in timers:
        if timer is not None:
            timer.cancel()
