"""Which channels go: ranking, rounding, targets and what is refused; every family is pruned and loads again."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.compression.cost import cost
from pipeline.compression.importance import alive, importance
from pipeline.compression.pruning import ChannelGroup, candidates, choose, prune, prune_to
from pipeline.errors import ModelError
from pipeline.models.registry import build, head
from pipeline.models.surgery import replay
from pipeline.sections.compression import Prune

SIZE = 32
CONVNEXT = {"depths": (1, 1, 2, 1), "dims": (16, 24, 32, 40)}
FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("mcunet-in2", {}), ("mobilenetv3_small_050", {}), ("mobilenet_v3_small", {}), ("convnext_tiny", CONVNEXT),
    ("tf_efficientnet_lite0", {}), ("resnet18", {}), ("test_resnet", {}),
]  # fmt: skip
CASES: list[tuple[str, dict[str, Any], Any]] = [(name, arguments, "isomorphic") for name, arguments in FAMILIES]
CASES += [(name, {}, scope) for name in ("mobilenetv3_small_050", "test_resnet") for scope in ("global", "layer")]


def network(name: str, arguments: dict[str, Any] | None = None) -> nn.Module:
    torch.manual_seed(0)
    return build(name, 5, arguments or {}).eval()


def found(
    made: nn.Module, name: str, ratios: dict[str, float] | None = None, importance_: str = "l1"
) -> list[ChannelGroup]:
    photos, labels = torch.randn(6, 3, SIZE, SIZE), torch.arange(6) % 5
    score = importance(importance_, made, photos, labels, 0.1)
    return candidates(made, SIZE, head(made), score, ratios or {})


def channels(made: nn.Module) -> dict[str, int]:
    return {name: m.weight.shape[0] for name, m in made.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}


# families -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "arguments", "scope"), CASES, ids=[f"{name}-{scope}" for name, _, scope in CASES])
def test_every_family_is_pruned_and_replayed(name: str, arguments: dict[str, Any], scope: Any) -> None:
    made = network(name, arguments)
    again, before = copy.deepcopy(made), channels(made)
    prefixes = head(made)
    last = {key: tensor.shape for key, tensor in made.named_parameters() if key.startswith(prefixes)}
    removed = prune(made, SIZE, found(made, name), 0.5, Prune(scope=scope))
    after = channels(made)
    for layer, n in before.items():
        assert after[layer] == n or after[layer] % 8 == 0, layer
        assert after[layer] >= min(8, n)
    assert sum(after.values()) < 0.7 * sum(before.values())
    for key, tensor in made.named_parameters():
        if key.startswith(prefixes):
            assert tensor.shape[0] == last[key][0]
    replay(again, SIZE, [{"removed": removed}])
    again.load_state_dict(made.state_dict())
    photos = torch.randn(2, 3, SIZE, SIZE)
    assert made(photos).shape == (2, 5)
    assert torch.equal(made(photos), again(photos))


def test_pruned_network_learns() -> None:
    made = network("mcunet-in2")
    prune(made, SIZE, found(made, "mcunet-in2"), 0.5, Prune())
    made.train()(torch.randn(2, 3, SIZE, SIZE)).sum().backward()
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_attention_is_refused() -> None:
    with pytest.raises(ModelError, match="is attention; only convolutional networks are pruned"):
        found(network("test_vit"), "test_vit")


def test_grouped_convolutions_and_what_is_tied_to_them_stay_whole() -> None:
    made = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 3, groups=4), nn.Conv2d(16, 8, 1), nn.Conv2d(8, 2, 1))
    options = candidates(made, SIZE, ("3.",), importance("l1", made, None, None, 0.0), {})
    assert [option.layer for option in options] == ["2"]


# ranking ------------------------------------------------------------------------------------------------------------

A = ChannelGroup("a", np.arange(16.0), "narrow", None)
B = ChannelGroup("b", np.arange(16.0) + 100, "narrow", None)
C = ChannelGroup("c", np.arange(32.0) + 1000, "wide", None)


def gone(ratio: float, *found: ChannelGroup, **settings: Any) -> dict[str, int]:
    removed = choose(found, ratio, Prune(**{"round_to": 1, "keep": 0.01, **settings}))
    assert all(indices == list(range(len(indices))) for _, indices in removed)  # the scores rise
    return {layer: len(indices) for layer, indices in removed}


def test_scopes() -> None:
    assert gone(0.5, A, B, C, scope="layer") == {"a": 8, "b": 8, "c": 16}
    assert gone(0.5, A, B, C, scope="isomorphic") == {"a": 15, "c": 16}  # a keeps one
    assert gone(0.5, A, B, C, scope="global") == {"a": 15, "b": 15}
    assert gone(0.25, A, B, C, scope="global") == {"a": 15}
    assert gone(0.25, A, B, C, scope="global", keep=0.5) == {"a": 8}


def test_channels_are_rounded_to_the_nearest_multiple_that_is_not_nothing() -> None:
    for ratio, left in ((0.1, 32), (0.3, 24), (0.5, 16), (0.6, 16), (0.7, 8), (0.95, 8)):
        assert 32 - gone(ratio, C, scope="layer", round_to=8).get("c", 0) == left
    twelve = ChannelGroup("d", np.arange(12.0), "d", None)
    assert gone(0.1, twelve, scope="layer", round_to=8) == {}  # 11 are nearer to all than to 8
    assert gone(0.5, twelve, scope="layer", round_to=8) == {"d": 4}
    assert gone(0.5, ChannelGroup("e", np.arange(6.0), "e", None), scope="layer", round_to=8) == {}


def test_equal_scores_go_in_order() -> None:
    assert choose([ChannelGroup("a", np.ones(4), "", None)], 0.5, Prune(round_to=1)) == [("a", [0, 1])]


def test_layer_with_its_own_ratio_does_not_compete() -> None:
    own = ChannelGroup("a", np.arange(16.0), "narrow", 0.25)
    for scope in ("global", "isomorphic", "layer"):
        assert gone(0.75, own, C, scope=scope)["a"] == 4
    assert "a" not in gone(0.75, ChannelGroup("a", np.arange(16.0), "narrow", 0.0), C, scope="global")


def test_ratio_that_leaves_no_channel_is_refused() -> None:
    with pytest.raises(ModelError, match="ratio 0.98 would leave no channel in a, which has 16; lower the ratio"):
        gone(0.98, A, scope="layer")
    with pytest.raises(ModelError, match="ratio 0.97 would leave no channel in a"):
        gone(0.5, ChannelGroup("a", np.arange(16.0), "", 0.97), scope="global")
    with pytest.raises(ValueError, match="ratio 1 would leave no channel"):
        Prune(ratios=[1.0])


def test_ratio_that_takes_nothing_away_is_refused() -> None:
    made = network("test_resnet")
    with pytest.raises(ModelError, match=r"ratio 0.01 takes no channel away.*lower prune\.round_to"):
        prune(made, SIZE, found(made, "test_resnet"), 0.01, Prune())


# patterns -----------------------------------------------------------------------------------------------------------


def test_patterns_set_ratios_of_single_layers() -> None:
    name = "mobilenetv3_small_050"
    made = network(name)
    before = channels(made)
    prune(made, SIZE, found(made, name, {"*.se.*": 0.0, "conv_head": 0.25}), 0.5, Prune())
    after = channels(made)
    assert all(after[layer] == before[layer] for layer in before if layer.endswith("se.conv_reduce"))
    assert after["conv_head"] == 0.75 * before["conv_head"]


def test_first_pattern_that_fits_counts() -> None:
    made = network("test_resnet")
    ratios = {item.layer: item.ratio for item in found(made, "test_resnet", {"layer1.*": 0.25, "layer*.conv1": 0.75})}
    assert ratios["layer1.0.conv1"] == 0.25
    assert ratios["layer2.0.conv1"] == 0.75
    assert ratios["conv1.0"] is None


@pytest.mark.parametrize(
    ("name", "pattern", "words"),
    [
        ("test_resnet", "fc", r"prune.layers names fc, which cannot be pruned: it is the classifier"),
        ("test_resnet", "layer1.0.bn1", r"names layer1.0.bn1, which cannot be pruned"),
        ("test_resnet", "layer1.0.conv7", r"no layer fits 'layer1.0.conv7'; did you mean layer1.0.conv"),
        ("mcunet-in2", "classifier*", r"names classifier, which cannot be pruned"),
    ],
)
def test_layers_that_cannot_be_pruned_are_named(name: str, pattern: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        found(network(name), name, {pattern: 0.5})


# targets ------------------------------------------------------------------------------------------------------------


def macs(made: nn.Module) -> float:
    return cost(made, SIZE).macs


def test_target_is_met_and_not_by_much() -> None:
    made = network("test_resnet")
    whole = macs(made)
    options = found(made, "test_resnet")
    ratio, removed = prune_to(made, SIZE, options, Prune(scope="layer"), macs, 0.5 * whole, "MACs")
    assert 0.4 * whole < macs(made) <= 0.5 * whole
    assert removed == choose(options, ratio, Prune(scope="layer"), strict=False)


def test_target_that_cannot_be_met_says_how_far_it_got() -> None:
    made = network("test_resnet")
    before = copy.deepcopy(made.state_dict())
    with pytest.raises(
        ModelError, match="target of 1 MACs cannot be met: from .* it went down to .* with 95%"
    ) as caught:
        prune_to(made, SIZE, found(made, "test_resnet"), Prune(), macs, 1, "MACs")
    start, reached = (float(text) for text in re.findall(r"([\d.]+e\+\d+)", str(caught.value)))
    assert start == pytest.approx(macs(made), rel=1e-3)
    assert 1 < reached < start
    assert all(torch.equal(before[key], tensor) for key, tensor in made.state_dict().items())


# importance ---------------------------------------------------------------------------------------------------------


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.bn, self.act = nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU()
        self.second, self.head = nn.Conv2d(4, 4, 1, bias=False), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.second(self.act(self.bn(self.first(x)))).mean((2, 3)))
        return scores


def scores(made: nn.Module, name: str, photos: Tensor | None = None) -> list[float]:
    """Of the first layer's channels."""
    labels = None if photos is None else torch.arange(len(photos)) % 2
    score = importance(name, made.eval(), photos, labels, 0.1)
    [first] = [item for item in candidates(made, 8, ("head.",), score, {}) if item.layer == "first"]
    return [float(value) for value in first.scores]


def plain() -> Plain:
    torch.manual_seed(1)
    made = Plain().eval()
    with torch.no_grad():
        made.first.weight.fill_(0.5)
        made.second.weight.fill_(0.5)
    return made


@pytest.mark.parametrize(("name", "power"), [("l1", 1), ("l2", 2)])
def test_norms_of_all_weights_that_go_with_a_channel(name: str, power: int) -> None:
    made = plain()
    with torch.no_grad():
        made.first.weight[2] = 0.1
        made.second.weight[:, 3] = 0.2
    sums = np.array(
        [(3 * a**power + 1 + 4 * b**power) / 3 for a, b in ((0.5, 0.5), (0.5, 0.5), (0.1, 0.5), (0.5, 0.2))]
    )
    assert scores(made, name) == pytest.approx((sums / sums.mean()).tolist(), rel=1e-4)


def test_taylor_finds_what_the_loss_does_not_need() -> None:
    made = plain()
    with torch.no_grad():
        made.first.weight[1] = 5.0  # large weights, but nothing reads them
        made.second.weight[:, 1] = 0
    found = scores(made, "taylor", torch.rand(6, 3, 8, 8))
    assert found[1] == pytest.approx(0, abs=1e-7)
    assert min(found[0], *found[2:]) > 0.1


def test_deadness_is_seen_after_normalisation_and_activation() -> None:
    made = plain()
    with torch.no_grad():
        made.first.weight.copy_(torch.tensor([1.0, 0.0, 0.0])[None, :, None, None].expand(4, 3, 1, 1))
        made.bn.bias.copy_(torch.tensor([0.0, -2.0, 2.0, -0.5]))
    photos = torch.zeros(2, 3, 8, 8)
    photos[1, 0] = 1.0
    # what follows bn and act: about (0, 1), (0, 0), (2, 3) and (0, .5); before them the second channel is loudest
    assert scores(made, "deadness", photos) == pytest.approx([0.5, 0.0, 1.0, 0.5])


def test_share_of_speaking_positions_by_batch_and_position() -> None:
    layer = nn.Conv2d(2, 1, 1)
    photos = torch.zeros(40, 2, 4, 4)  # more than a batch
    photos[:10, 0] = 1.0
    photos[:, 1, :2] = -1.0
    assert alive(nn.Sequential(layer), photos, 0.5)[layer].tolist() == pytest.approx([0.25, 0.5])
    assert alive(nn.Sequential(layer), photos, 1.0)[layer].tolist() == [0, 0]
    assert not layer._forward_pre_hooks


def test_share_of_speaking_positions_of_a_layer_that_is_called_twice() -> None:
    layer = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        layer.weight.fill_(0.5)
        layer.bias.zero_()
    photos = torch.ones(40, 1, 4, 4)  # 1, then .5
    assert alive(nn.Sequential(layer, layer), photos, 0.4)[layer].tolist() == [1]
    assert alive(nn.Sequential(layer, layer), photos, 0.6)[layer].tolist() == pytest.approx([0.5])


def test_photos_are_needed_where_they_are_looked_at() -> None:
    for name in ("taylor", "deadness"):
        with pytest.raises(ModelError, match=f"importance {name} needs photos of the train part"):
            importance(name, Plain(), None, None, 0.1)


@pytest.mark.parametrize("name", ["taylor", "deadness"])
@pytest.mark.parametrize("architecture", ["mobilenetv3_small_050", "test_convnext"])
def test_every_importance_scores_every_channel(architecture: str, name: str) -> None:
    made = network(architecture)
    for item in found(made, architecture, importance_=name):
        assert np.isfinite(item.scores).all()
        assert (item.scores >= 0).all()
        assert item.scores.any() or name == "deadness"
