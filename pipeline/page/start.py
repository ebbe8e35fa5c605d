"""Start the page's server: on this machine alone unless told, with a limit on uploads, and asking nothing of anyone."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from pipeline.config import Config
from pipeline.console import log
from pipeline.edge.cascade import load_cascade
from pipeline.errors import ConfigError, DataError

PAGE = Path(__file__).with_name("main.py")
UPLOAD_MB = 25  # per photo
HEADINGS = ("2.25rem", "1.6rem", "1.3rem", "1.1rem", "1rem", "1rem")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def start(config: Config, host: str, port: int) -> None:
    """Serve the page until it is stopped. What is missing or taken is an error before anything is served."""
    folder = config.output / "bundle"
    if not folder.is_dir():
        raise DataError(f"no bundle at {folder}; run deploy.py with the same --config first")
    load_cascade(folder, lazy=True)
    _check_free(host, port)
    try:
        from streamlit.web import cli
    except ModuleNotFoundError as error:
        raise ConfigError(f"the page needs the package {error.name}: pip install 'ommatidia[app]'") from error
    log.info("page      http://%s:%d (Ctrl-C stops it)", f"[{host}]" if ":" in host else host, port)
    words = [f"--{name}={value}" for name, value in settings(host, port)]
    cli.main(["run", *words, str(PAGE), "--", json.dumps(config.dump())], standalone_mode=False)


def settings(host: str, port: int) -> list[tuple[str, object]]:
    """Streamlit's settings. On this machine alone, requests must name it, so that no other site's page reaches it.

    Its welcome message asks a server for this machine's address where it listens on all of them.
    """
    return [
        ("server.address", host),
        ("server.port", port),
        ("server.headless", True),
        ("server.maxUploadSize", UPLOAD_MB),
        ("server.fileWatcherType", "none"),
        ("browser.gatherUsageStats", False),
        ("logger.hideWelcomeMessage", True),
        ("client.toolbarMode", "viewer"),
        ("client.showErrorDetails", "type"),
        ("theme.light.textColor", "#000000"),  # captions are 60 % of it; with Streamlit's own its contrast is below 4.5
        ("theme.dark.primaryColor", "#e8606d"),  # of the open tab; likewise
        ("theme.headingFontSizes", json.dumps(HEADINGS)),
        *(("server.allowedHosts", name) for name in LOOPBACK if host in LOOPBACK),
    ]


def _check_free(host: str, port: int) -> None:
    if not 0 < port < 65536:
        raise ConfigError(f"--port must lie between 1 and 65535, not {port}")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just left is free
            taken.bind(address)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}, port {port}: {error.strerror}; give another --port") from error
