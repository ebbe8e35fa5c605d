"""ResNet-50 with channel attention: its parts are the described ones, torchvision's weights fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import ModelError
from pipeline.models.attention import ChannelAttention
from pipeline.models.registry import build, head


def test_layers_are_the_described_ones() -> None:
    with torch.device("meta"):
        network = build("resnet50_attention", 15)
    drops = [module.p for module in network.fc if isinstance(module, nn.Dropout)]
    widths = [module.out_features for module in network.fc if isinstance(module, nn.Linear)]
    assert drops == pytest.approx([0.6, 0.48, 0.36, 0.24])
    assert widths == [1024, 512, 256, 15]
    assert [tuple(p.shape) for p in network.attention.parameters()] == [(128, 2048, 1, 1), (2048, 128, 1, 1)]
    assert head(network) == ("attention.", "fc.")


def test_attention_is_its_formula() -> None:
    torch.manual_seed(0)
    attention, maps = ChannelAttention(32), torch.randn(2, 32, 5, 5)
    down, up = (layer.weight.flatten(1) for layer in (attention.shared[0], attention.shared[2]))
    said = [(x @ down.T).relu() @ up.T for x in (maps.mean((2, 3)), maps.amax((2, 3)))]
    torch.testing.assert_close(attention(maps), maps * torch.sigmoid(said[0] + said[1])[:, :, None, None])


def test_weights_of_the_plain_resnet_fit_all_but_attention_and_classifier(tmp_path: Path) -> None:
    plain = build("resnet50", 7).state_dict()
    save_file(plain, tmp_path / "resnet50.safetensors")
    network = build("resnet50_attention", 3, {"hidden": [8]}, tmp_path / "resnet50.safetensors").eval()
    state = network.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in plain.items() if not name.startswith("fc."))
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


def test_unknown_argument_is_refused_by_name() -> None:
    with pytest.raises(
        ModelError, match=r"resnet50_attention takes drop_rate and hidden, but the config gives \['width'\]"
    ):
        build("resnet50_attention", 3, {"width": 2})


def test_the_last_parameters_are_the_classifiers() -> None:
    names = [name for name, _ in build("resnet50_attention", 5, {}, False).named_parameters()]
    assert names[-1].startswith("fc.")
    assert names[-1].endswith(".bias")
    assert [name.partition(".")[0] for name in names].index("attention") < names.index("fc.1.weight")
