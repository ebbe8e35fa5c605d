"""Rules for all servers of this project: the addresses they listen on, and the image formats they accept."""

from __future__ import annotations

import socket

from pipeline.errors import ConfigError

FORMATS = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"]  # an allow-list: some Pillow decoders (EPS) run other programs


def listening(host: str, port: int, least: int = 0, backlog: int | None = None) -> socket.socket:
    """A socket that listens there; what is wrong with host or port is a ConfigError. least: the lowest port allowed."""
    if not least <= port < 65536:
        raise ConfigError(f"--port must lie between {least} and 65535, not {port}")
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(place, family=family, backlog=backlog)
    except (OSError, UnicodeError) as error:
        told = str(getattr(error, "strerror", error)).partition(" (while ")[0]  # the place, once more
        raise ConfigError(f"cannot listen on {host}, port {port}: {told}; give another --host or --port") from error


def url(scheme: str, host: str, port: int) -> str:
    """As a browser takes it."""
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
