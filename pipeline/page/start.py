"""Start the page's server: on this machine alone unless configured, with a limit on uploads, without telemetry."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from pipeline.config import Config
from pipeline.console import Facts, log
from pipeline.deploy.answering import place
from pipeline.edge.cascade import load_cascade
from pipeline.errors import ConfigError
from pipeline.field.link import loopback
from pipeline.listening import listening, url

PAGE = Path(__file__).with_name("main.py")
UPLOAD_MB = 25  # per photo
HEADINGS = ("2.25rem", "1.6rem", "1.3rem", "1.1rem", "1rem", "1rem")
LOCAL = ("127.0.0.1", "localhost", "::1")  # names of this machine in a browser


def start(config: Config, host: str, port: int, ready: Callable[[Facts], None] = lambda _: None) -> None:
    """Serve the page until SIGTERM or Ctrl-C. What is missing or taken is an error before anything is served.

    ready: told the address, once the page is there.
    """
    load_cascade(place(config), lazy=True)
    listening(host, port, least=1).close()
    try:
        from streamlit.web import cli
    except ModuleNotFoundError as error:
        raise ConfigError(f"the page needs the package {error.name}: pip install 'ommatidia[app]'") from error
    ended = threading.Event()
    threading.Thread(target=_announce, args=(host, port, ready, ended), daemon=True).start()
    words = [f"--{name}={value}" for name, value in settings(host, port)]
    try:
        cli.main(["run", *words, str(PAGE), "--", json.dumps(config.dump())], standalone_mode=False)
    finally:
        ended.set()
    log.info("page      ended; the same command serves it again")


def _announce(host: str, port: int, ready: Callable[[Facts], None], ended: threading.Event) -> None:
    """Report the page's address as soon as the server listens."""
    while not ended.wait(0.05):
        try:
            socket.create_connection((host, port)).close()
        except OSError:
            continue
        address = url("http", host, port)
        log.info("page      %s (Ctrl-C stops it)", address)
        ready({"address": address})
        return


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
        *(("server.allowedHosts", name) for name in dict.fromkeys((*LOCAL, host)) if loopback(host)),
    ]
