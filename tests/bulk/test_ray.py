"""The same answers from Ray. Sweeps and a lost node are tried where OMMATIDIA_RAY is set, since Ray starts slowly."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from toy import Experiment, write_photo

from pipeline.cluster import Engine
from pipeline.errors import ConfigError, DataError, NetworkError

from .bulk_rows import answers, classified

TESTS = Path(__file__).resolve().parents[1]  # where Ray's workers find the functions of these tests
Predict = Callable[..., int]
slow = pytest.mark.skipif("OMMATIDIA_RAY" not in os.environ, reason="OMMATIDIA_RAY is not set")


@contextmanager
def in_time() -> Iterator[None]:
    """Ray gives up where it cannot start in half a minute; then this machine is too busy to be asked."""
    pytest.importorskip("ray")
    try:
        yield
    except NetworkError as error:
        pytest.skip(str(error))


def half(n: int) -> int:
    if n % 2:
        raise DataError(f"{n} is odd")
    return n // 2


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"--engine ray needs Ray; run: pip install 'ommatidia\[cluster\]'"):
        list(Engine("ray").each(half, [1]))


@pytest.mark.parametrize("words", ["--address a:1", "--cpus 2", "--gpus 1"])
def test_what_is_of_ray_is_refused_without_it(words: str) -> None:
    parser = argparse.ArgumentParser()
    Engine.arguments(parser)
    with pytest.raises(
        ConfigError, match="--address, --cpus and --gpus are of --engine ray; add it, or leave them out"
    ):
        Engine.chosen(parser.parse_args(words.split()))
    assert Engine.chosen(parser.parse_args(["--engine", "ray", *words.split()])).name == "ray"


def test_locally_an_error_takes_the_place_of_what_failed() -> None:
    two, error, three = Engine().each(half, [4, 5, 6])
    assert (two, str(error), three) == (2, "5 is odd", 3)


def test_rows_are_those_of_classify(predict: Predict, packed: Experiment, photos: Path, tmp_path: Path) -> None:
    with in_time():
        assert predict(photos, engine="ray", workers=1, part_size=10) == 3
    assert {row["path"]: row for row in answers(tmp_path / "out")} == classified(packed, photos, tmp_path / "k.jsonl")
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


@slow
def test_members_are_tasks_and_one_that_fails_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    with in_time():
        two, error, three = Engine("ray").each(half, [4, 5, 6])
    assert (two, three) == (2, 3)
    assert isinstance(error, DataError) and str(error) == "5 is odd"


def test_no_cluster_and_no_such_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = SimpleNamespace(
        init=lambda **given: None, shutdown=lambda: None, nodes=lambda: [{"Alive": True, "Resources": {"CPU": 2}}]
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(ConfigError, match="a task wants 1 GPUs and no machine has more than 0; lower --gpus"):
        list(Engine("ray", gpus=1).each(half, [4]))

    def refuse(**given: object) -> None:
        raise ConnectionError("nobody there")

    ray.init = refuse
    with pytest.raises(
        NetworkError, match="no Ray cluster answers at a:1; start one with ray start --head: nobody there"
    ):
        list(Engine("ray", "a:1").each(half, [4]))


@slow
def test_a_lost_node_costs_no_photo_and_doubles_none(predict: Predict, packed: Experiment, tmp_path: Path) -> None:
    utils = pytest.importorskip("ray.cluster_utils")
    first = write_photo(tmp_path / "photos" / "0.png", (220, 30, 30))
    for i in range(1, 2000):
        os.link(first, first.with_name(f"{i}.png"))
    nodes = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second, parts = nodes.add_node(num_cpus=1), tmp_path / "out" / "answers"
    killed: list[int] = []

    def kill() -> None:
        while not parts.is_dir() or len(list(parts.glob("part-*"))) < 20:
            time.sleep(0.01)
        nodes.remove_node(second, allow_graceful=False)
        killed.append(len(list(parts.glob("part-*"))))

    watching = threading.Thread(target=kill)
    watching.start()
    try:
        assert predict(first.parent, engine="ray", address=nodes.address, part_size=2) == 0
        watching.join()
        assert not second.any_processes_alive()
    finally:
        nodes.shutdown()
    assert killed[0] < 1000
    predict(first.parent, out=tmp_path / "whole", part_size=2)
    assert answers(tmp_path / "out") == answers(tmp_path / "whole")
