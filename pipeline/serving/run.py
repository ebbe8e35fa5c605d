"""Serve a bundle, or one model, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.console import Facts, log
from pipeline.deploy.answering import load
from pipeline.edge.cascade import Cascade
from pipeline.errors import ConfigError, DataError
from pipeline.field.link import loopback
from pipeline.files import read_json
from pipeline.listening import listening, url
from pipeline.serving.limits import Limits

TOKEN = "OMMATIDIA_TOKEN"


def read_token(file: Path | None) -> str | None:
    """The token from a file, else from the environment; none where neither is given."""
    try:
        token = file.read_text(encoding="utf-8").strip() if file else os.environ.get(TOKEN)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the token cannot be read from {file}: {error}") from error
    if token is not None and (len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token):
        raise ConfigError("a token has at least 16 printable ASCII characters; make one with: openssl rand -hex 32")
    return token


def serve(
    place: Path,
    limits: Limits,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    stages: Sequence[str] = (),
    threads: int = 1,
    certificate: tuple[Path, Path] | None = None,
    ready: Callable[[Facts], None] = lambda _: None,
) -> None:
    """Answer HTTP requests; on SIGTERM or Ctrl-C the accepted ones are answered first.

    place: the folder of a bundle, or one exported model. stages: only these of the bundle. threads: of one call of a
    network. certificate: files of certificate and key. ready: told what answers and where, once it listens.
    """
    place = place.resolve()  # its folders' names are told
    if threads < 1:
        raise ConfigError(f"--threads must be at least 1, not {threads}")
    if not (token or loopback(host)):
        raise ConfigError(f"without a token only this machine may ask: give one (--token-file, {TOKEN}), or no --host")
    try:
        import uvicorn

        from pipeline.serving.app import application
        from pipeline.serving.connection import configured
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed; run: pip install 'ommatidia[serve]'") from error
    from pipeline.serving.engine import Engine

    engine = Engine(_chosen(load(place, threads), stages), limits)
    experiment = _experiment(place)
    settings = configured(application(engine, experiment, token), limits, certificate)
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again once it is done
        signal.signal(number, lambda *_: None)
    with listening(host, port, backlog=limits.connections) as waiting:
        names = [stage.name for stage in engine.cascade.stages]
        where = url("https" if certificate else "http", host, waiting.getsockname()[1])
        log.info("serve     %s answers with %s of %s", where, ", ".join(names), experiment)
        ready({"address": where, "experiment": experiment, "stages": names})
        uvicorn.Server(settings).run(sockets=[waiting])
    log.info("serve     ended; all that was taken is answered")


def _experiment(place: Path) -> str:
    """Name of the experiment: a model's folder, or from the bundle."""
    if place.is_file():
        return place.parents[1].name
    return str(read_json(place / "cascade.json", "cascade").get("experiment", place.name))


def _chosen(cascade: Cascade, names: Sequence[str]) -> Cascade:
    known = [stage.name for stage in cascade.stages]
    if unknown := set(names) - set(known):
        raise DataError(f"the bundle has no stage {sorted(unknown)[0]!r}; its stages: {', '.join(known)}")
    return Cascade([stage for stage in cascade.stages if stage.name in names]) if names else cascade
