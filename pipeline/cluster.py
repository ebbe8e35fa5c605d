"""Ray, where requested: connect to a cluster or start one here; run the members of a sweep in turn or as Ray tasks.

Ray sends no usage statistics and shows no dashboard; started here, it listens on this machine alone.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.console import log
from pipeline.errors import ConfigError, ModelError, NetworkError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Engine:
    """Who does the members of a sweep; ray: with so many cores and GPUs each."""

    name: str = "local"
    address: str | None = None
    cpus: float = 1
    gpus: float = 0

    @staticmethod
    def arguments(parser: argparse.ArgumentParser) -> None:
        """Add the options of a script that choose the engine."""
        parser.add_argument(
            "--engine", choices=["local", "ray"], default="local", help="local: in turn; ray: as Ray tasks"
        )
        parser.add_argument("--address", help="ray: address of the cluster (default: start one on this machine)")
        parser.add_argument("--cpus", type=float, default=1, help="ray: cores per task (default 1)")
        parser.add_argument("--gpus", type=float, default=0, help="ray: GPUs per task, fractions allowed (default 0)")

    @staticmethod
    def chosen(given: argparse.Namespace) -> Engine:
        """The engine that the options name."""
        if given.cpus < 0 or given.gpus < 0:
            raise ConfigError("--cpus and --gpus must not be below 0")
        if given.engine != "ray" and (given.address or given.cpus != 1 or given.gpus):
            raise ConfigError("--address, --cpus and --gpus are of --engine ray; add it, or leave them out")
        return Engine(given.engine, given.address, given.cpus, given.gpus)

    def each(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R | Exception]:
        """What the work gives for each item, in their order; where it fails, its error."""
        if self.name == "ray":
            yield from _tasks(self, work, items)
            return
        for item in items:
            try:
                yield work(item)
            except Exception as error:  # noqa: BLE001  # of any kind: the others go on
                log.debug("failed", exc_info=True)
                yield error


LOCAL = Engine()


def _tasks(engine: Engine, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R | Exception]:
    with cluster(engine.address, quiet=False) as ray:
        for name, wanted in (("CPU", engine.cpus), ("GPU", engine.gpus)):
            most = max(node["Resources"].get(name, 0) for node in ray.nodes() if node["Alive"])
            if wanted > most:
                told = f"a task wants {wanted:g} {name}s and no machine has more than {most:g}"
                if not engine.address:
                    raise ConfigError(f"{told}; lower --{name.lower()}s")
                log.warning("ray       %s; waiting for one that joins the cluster", told)
        task = ray.remote(num_cpus=engine.cpus, num_gpus=engine.gpus)(_told)
        for running in [task.remote(log.level, work, item) for item in items]:
            try:
                yield ray.get(running)
            except ray.exceptions.RayTaskError as error:
                yield error.cause
            except ray.exceptions.RayError as error:  # lost more often than Ray tries again
                yield ModelError(f"its task was lost: {str(error).splitlines()[0]}")


def _told(level: int, work: Callable[[T], R], item: T) -> R:
    """The work, with its log lines on the task's stderr, which Ray passes on."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    log.setLevel(level)
    return work(item)


@contextmanager
def cluster(address: str | None, cores: int | None = None, quiet: bool = True) -> Iterator[Any]:
    """The module `ray`, connected to the cluster at `address`, or to one of so many cores that is started on this machine.

    quiet: what tasks print is not shown here.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when Ray is imported; it sends data otherwise
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigError("--engine ray needs Ray; run: pip install 'ommatidia[cluster]'") from error
    here = {} if address else {"num_cpus": cores, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(address=address or "local", log_to_driver=not quiet, logging_level="ERROR", **here)
    except Exception as error:  # Ray raises ConnectionError, ValueError, RuntimeError and plain ones
        told = (
            f"no Ray cluster answers at {address}; start one with ray start --head" if address else "Ray does not start"
        )
        raise NetworkError(f"{told}: {str(error).splitlines()[0]}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
