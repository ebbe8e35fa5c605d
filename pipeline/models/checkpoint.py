"""The model folder: weights.safetensors + model.json, with everything needed to rebuild the model and to verify it."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import nn

from pipeline import __version__
from pipeline.edge.recipe import Recipe
from pipeline.errors import ModelError
from pipeline.files import digest, read_json, replacing, sha256, write_json
from pipeline.labels import LabelSpace

FORMAT = 1
WEIGHTS, CARD = "weights.safetensors", "model.json"
RETRAINED = "_retrained"  # end of the name of a pruned model that was trained on


@dataclass(frozen=True)
class ModelCard:
    """Description of a model: network, labels, recipe and origin. Stored in model.json and in the ONNX file.

    role: "cache" or "main". window: [start_rank, species] of a cache, None for main. data_hash: of the manifest.
    """

    name: str
    role: str
    architecture: str
    arguments: dict[str, Any]
    labels: LabelSpace
    recipe: Recipe
    data_hash: str
    seed: int
    window: tuple[int, int] | None = None
    threshold: float | None = None
    pretrained: str = "none"
    pruning: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""

    @property
    def pruning_hash(self) -> str:
        """Hash of the pruning history and its network."""
        return digest([self.architecture, self.arguments, self.pruning])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with hashes of labels, recipe and (if any) pruning history, and versions."""
        data = asdict(self)
        data["labels"] = list(self.labels.names)
        data["recipe"] = self.recipe.to_dict()
        hashes = {"label_hash": self.labels.hash, "recipe_hash": self.recipe.hash}
        if self.pruning:
            hashes["pruning_hash"] = self.pruning_hash
        return {"format": FORMAT, **data, **hashes, "versions": versions()}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> ModelCard:
        """Read a card back; a label list, recipe or pruning history that does not fit its hash is refused."""
        if data.get("format") != FORMAT:
            raise ModelError(f"model card of format {data.get('format')}; this version reads {FORMAT}")
        fields = {key: data[key] for key in ModelCard.__dataclass_fields__}
        fields["labels"] = LabelSpace(tuple(data["labels"]))
        fields["recipe"] = Recipe.from_dict(data["recipe"])
        fields["window"] = tuple(data["window"]) if data["window"] else None
        card = ModelCard(**fields)
        for what, hash_ in (("label", card.labels.hash), ("recipe", card.recipe.hash)):
            if data[f"{what}_hash"] != hash_:
                raise ModelError(
                    f"{card.name}: the {what}s were edited: {what}_hash {data[f'{what}_hash']} is not {hash_}"
                )
        if (card.pruning or "pruning_hash" in data) and data.get("pruning_hash") != card.pruning_hash:
            raise ModelError(
                f"{card.name}: the pruning history was edited or is another network's: pruning_hash "
                f"{data.get('pruning_hash')} is not {card.pruning_hash}; prune again"
            )
        return card


def versions() -> dict[str, str]:
    """Versions of the software behind a result."""
    found = {"ommatidia": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for package in ("torch", "timm", "torch-pruning", "onnx", "onnxruntime", "numpy", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def save_model(folder: Path, network: nn.Module, card: ModelCard) -> None:
    """Write a model folder; the weights first, the card that names their hash last."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    weights = folder / WEIGHTS
    with replacing(weights) as temporary:
        temporary.write_bytes(save(state))  # Python's writing: a full disk is an OSError that names the file
    save_card(folder, replace(card, weights_sha256=sha256(weights)))


def save_card(folder: Path, card: ModelCard) -> None:
    """Write only the card, with the hash of the existing weights."""
    write_json(folder / CARD, card.to_dict())


def is_intact(folder: Path, card: ModelCard) -> bool:
    """Whether the folder's weights are those that its card describes."""
    weights = folder / WEIGHTS
    return weights.is_file() and sha256(weights) == card.weights_sha256


def read_card(folder: Path) -> ModelCard:
    """The card of a model folder; its absence says which command makes it."""
    if not (folder / CARD).is_file():
        there = ", ".join(sorted(path.parent.name for path in folder.parent.glob(f"*/{CARD}")))
        hint = f", or choose of {there}" if there else ""
        raise ModelError(f"no trained model in {folder}; run train.py with the same --config first{hint}")
    try:
        return ModelCard.from_dict(read_json(folder / CARD, "model card"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder / 'model.json'} is not a model card: {error!r}") from error


def load_model(folder: Path) -> tuple[nn.Module, ModelCard]:
    """Build the network of a model folder, prune it as its history says and load its weights; eval mode, CPU."""
    from pipeline.models.registry import build

    card = read_card(folder)
    weights = folder / WEIGHTS
    if not is_intact(folder, card):
        raise ModelError(f"{weights} is missing or not the file that model.json describes; train again")
    network = build(card.architecture, len(card.labels), card.arguments)
    if card.pruning:
        from pipeline.models.surgery import replay  # imports Torch-Pruning, which few need

        replay(network, card.recipe.size, card.pruning)
    try:
        network.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise ModelError(
            f"{weights} does not fit {card.architecture} with arguments {card.arguments}: model.json was edited, "
            "or a package is of another version"
        ) from error
    return network.eval(), card


def finished_model(folder: Path) -> tuple[nn.Module, ModelCard]:
    """As load_model, for a model to build on; one whose training has not ended is refused."""
    network, card = load_model(folder)
    if not card.training.get("finished", True):
        raise ModelError(f"{folder} is still in training; let its train.py end first (the same command goes on)")
    return network, card
