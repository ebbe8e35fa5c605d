"""MACs, parameters and peak memory against figures worked out by hand and against those that are published."""

from __future__ import annotations

import pytest
import torch
from mcunet.utils.pytorch_utils import count_peak_activation_size
from torch import Tensor, nn

from pipeline.compression.cost import compare, cost, layers, profile
from pipeline.models.registry import build
from pipeline.models.surgery import remove


class Residual(nn.Module):
    """Eight channels around, sixteen within; the input is needed until the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.expand, self.bn, self.act = nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.project = nn.Conv2d(16, 8, 1, bias=False)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inner = self.project(self.depthwise(self.act(self.bn(self.expand(x)))))
        scores: Tensor = self.head((x + inner).mean((2, 3)))
        return scores


AREA = 10 * 10


def test_macs_and_parameters_by_hand() -> None:
    found = cost(Residual(), 10)
    assert found.macs == AREA * (3 * 8 + 8 * 16 + 9 * 16 + 16 * 8) + 8 * 5
    assert found.parameters == (3 * 8 + 8) + 8 * 16 + 2 * 16 + 9 * 16 + 16 * 8 + (8 * 5 + 5)
    assert profile(Residual(), (torch.zeros(2, 3, 10, 10),)) == (2 * found.macs, found.parameters)


def test_peak_counts_what_is_needed_later_and_nothing_twice() -> None:
    found = cost(Residual(), 10)
    assert found.peak_elements == AREA * (8 + 16 + 16)  # the shortcut, and the depthwise convolution's two sides
    assert found.peak_bytes == 4 * found.peak_elements
    assert cost(Residual(), 10, depthwise_in_place=True).peak_elements == AREA * (8 + 16 + 8)  # now at the projection
    assert found.activation_bytes == 4 * (AREA * (8 + 16 + 16 + 8) + 8 + 5)  # neither bn, act nor the sum has its own


def test_input_and_output_count_where_they_are_the_most() -> None:
    assert cost(nn.Conv2d(3, 2, 1), 10).peak_elements == AREA * (3 + 2)


def test_a_map_that_is_read_again_is_not_written_over() -> None:
    class Kept(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return x.relu() + x

    assert cost(Kept(), 10).activation_bytes == 4 * AREA * (4 + 4)


def test_element_size_follows_the_type() -> None:
    assert cost(Residual().half(), 10).peak_bytes == 2 * cost(Residual(), 10).peak_elements


def test_layers_add_up_to_the_totals() -> None:
    network = Residual()
    table, total = layers(network, 10), cost(network, 10)
    assert table["layer"].tolist() == ["stem", "expand", "bn", "depthwise", "project", "", "head"]
    assert table["operator"].tolist()[:5] == ["Conv2d", "Conv2d", "BatchNorm2d", "Conv2d", "Conv2d"]
    assert table["macs"].sum() == total.macs
    assert table["parameters"].sum() == total.parameters
    assert table["bytes"].sum() == total.activation_bytes
    assert table["live_bytes"].max() == total.peak_bytes
    assert table["shape"].tolist()[3] == (1, 16, 10, 10)
    assert table.query("layer == 'bn'")["bytes"].item() == 0


@pytest.mark.parametrize("name", ["test_convnext", "test_resnet", "mobilenetv3_small_050"])
def test_layers_add_up_in_real_networks(name: str) -> None:
    network = build(name, 5)
    table, total = layers(network, 64), cost(network, 64)
    assert (table["macs"].sum(), table["parameters"].sum()) == (total.macs, total.parameters)
    assert (table["bytes"].sum(), table["live_bytes"].max()) == (total.activation_bytes, total.peak_bytes)


def test_mcunet_costs_what_is_published() -> None:
    network = build("mcunet-in2", 1000)
    found = cost(network, 160)
    assert 67.1e6 <= found.macs <= 67.3e6
    assert found.parameters == 729_392  # .73 M
    assert found.peak_elements == count_peak_activation_size(network, (1, 3, 160, 160)) == 332_800
    assert cost(network, 160, depthwise_in_place=True).peak_elements == 204_800  # 242 kB with the engine's own buffers


def test_a_network_is_left_as_it_was() -> None:
    network = Residual()
    network.bn.eval()
    modes = [module.training for module in network.modules()]
    cost(network, 10)
    assert [module.training for module in network.modules()] == modes
    assert network.bn.num_batches_tracked == 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_pruned_network_costs_what_is_left() -> None:
    network = Residual()
    remove(network, 10, [("expand", [0, 3, 5, 15])])
    found = cost(network, 10)
    assert found.macs == AREA * (3 * 8 + 8 * 12 + 9 * 12 + 12 * 8) + 8 * 5
    assert found.peak_elements == AREA * (8 + 12 + 12)


def test_comparison_shows_the_shapes_side_by_side() -> None:
    first, second = Residual(), Residual()
    remove(second, 10, [("expand", [0, 3, 5, 15])])
    del second.head
    table = compare(first, second).set_index("layer")
    assert table.loc["expand"].tolist() == [(16, 8, 1, 1), (12, 8, 1, 1), 0.75]
    assert table.loc["project", "second"] == (8, 12, 1, 1)
    assert table.loc["stem", "kept"] == 1
    assert table.loc["head", "second"] is None
