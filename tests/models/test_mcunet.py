"""mcunet-in2 from the shipped architecture: the published parameter counts, built as often as one likes."""

from __future__ import annotations

import io
import json
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import ModelError
from pipeline.models import mcunet
from pipeline.models.registry import build, resolve
from pipeline.models.weights import read_weights

BACKBONE = Path(__file__).resolve().parents[3] / "shared" / "weights" / "mcunet_in2_backbone.safetensors"


@pytest.mark.parametrize(("outputs", "parameters"), [(3, 561_131), (8, 561_936), (51, 568_859)])
def test_parameters_are_as_published(outputs: int, parameters: int) -> None:
    """With normalisation folded into the convolutions, as in the published files: one bias per channel, no scale."""
    network = build("mcunet-in2", outputs)
    scales = sum(m.weight.numel() for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert sum(p.numel() for p in network.parameters()) - scales == parameters


def test_multiplications_at_160_px_are_as_published() -> None:
    network = build("mcunet-in2", 8).eval()
    macs = 0

    def count(module: torch.nn.Conv2d | torch.nn.Linear, _: Any, output: torch.Tensor) -> None:
        nonlocal macs
        per_output = module.weight[0].numel()
        macs += per_output * output[0].numel()

    for module in network.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(count)
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 160, 160)).shape == (1, 8)
    assert macs == pytest.approx(67.1e6, rel=0.005)


def test_each_build_is_whole() -> None:
    first, second = (mcunet.build("mcunet-in2", n, {}) for n in (3, 5))
    shapes = [[p.shape for p in network.parameters()] for network in (first, second)]
    assert len(shapes[0]) == len(shapes[1]) > 100
    assert shapes[0][:-2] == shapes[1][:-2]
    assert (shapes[0][-2][0], shapes[1][-2][0]) == (3, 5)


def test_arguments_are_refused() -> None:
    with pytest.raises(ModelError, match=r"mcunet-in2 takes drop_rate and config, but the config gives \['width'\]"):
        build("mcunet-in2", 3, {"width": 2})


@pytest.mark.skipif(not BACKBONE.is_file(), reason="needs the shared pretrained backbone")
def test_local_backbone_loads_all_but_the_classifier() -> None:
    given = read_weights(BACKBONE)
    torch.manual_seed(0)
    loaded = build("mcunet-in2", 3, pretrained=BACKBONE).state_dict()
    torch.manual_seed(0)
    bare = build("mcunet-in2", 3).state_dict()
    differing = {name for name, tensor in loaded.items() if name not in given or not torch.equal(tensor, given[name])}
    assert differing == {name for name in bare if name.startswith(mcunet.HEAD)}
    assert all(torch.equal(loaded[name], bare[name]) for name in differing)


def test_unreachable_server_asks_for_a_local_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    with pytest.raises(
        ModelError, match=r"cannot be reached .*no route to host.*; give a local file: pretrained: FILE"
    ):
        build("mcunet-in2", 3, pretrained=True)


@pytest.mark.parametrize("nested", [True, False])
def test_downloaded_weights_are_loaded(monkeypatch: pytest.MonkeyPatch, nested: bool) -> None:
    state = build("mcunet-in2", 1000).state_dict()
    asked: dict[str, Any] = {}

    def answer(url: str, **options: Any) -> dict[str, Any]:
        asked.update(options, url=url)
        return {"state_dict": state} if nested else state

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", answer)
    network = build("mcunet-in2", 3, pretrained=True).state_dict()
    assert asked["weights_only"] is True
    assert asked["url"].startswith("https://")
    assert all(torch.equal(network[name], state[name]) for name in network if not name.startswith(mcunet.HEAD))


def test_relatives_are_built_from_the_servers_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = mcunet._shipped()
    asked = []

    def answer(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(json.dumps(shipped).encode())

    monkeypatch.setattr("urllib.request.urlopen", answer)
    arguments = resolve("mcunet-in3", 176, {"drop_rate": 0.1})
    assert asked == [f"{mcunet.SERVER}mcunet-320kb-1mb_imagenet.json"]
    network = build("mcunet-in3", 5, arguments)  # from the arguments alone, as a model folder is read
    assert len(asked) == 1
    assert network.classifier.linear.out_features == 5
    assert arguments["config"] == shipped


def test_relatives_without_the_server_ask_for_their_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", fail)
    with pytest.raises(ModelError, match=r"mcunet-in4 cannot be fetched .*no route.*arguments: \{config: .*mcunet-in2"):
        build("mcunet-in4", 3)


def test_drop_rate_comes_before_the_classifier() -> None:
    drops = [m.p for m in build("mcunet-in2", 3, {"drop_rate": 0.3}).modules() if isinstance(m, torch.nn.Dropout)]
    assert drops == [0.3]
