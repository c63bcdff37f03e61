"""The teacher, without downloads."""

from __future__ import annotations

import urllib.error

import pytest
import torch

from trainer.data.samples import Samples
from trainer.networks.teacher import Teacher, load, save, stages, start, train_teacher
from trainer.networks.torchvision_backbone import EfficientNet_B0_Weights, efficientnet_b0
from trainer.recipe import Fit, TeacherRecipe, TeacherStage, TrainingError
from trainer.training.losses import folded

NONE = Samples(torch.empty((0, 2, 32, 32), dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
TINY = Fit(batch=4, average=0.5)


def stripes(count=8, seed=0):
    """Two classes that augmentation keeps distinct: stripes and no stripes."""
    labels = torch.arange(count) % 2
    wave = (torch.arange(32) // 4 % 2 * 120 - 60)[None, None, :] * (1 - labels)[:, None, None]
    noise = 10 * torch.randn(count, 32, 32, generator=torch.Generator().manual_seed(seed))
    return Samples((128 + wave + noise).clamp(0, 255).byte()[:, None].repeat(1, 2, 1, 1), labels)


def with_statistics(network):
    """BatchNorm with statistics: otherwise the features of random weights are denormal numbers, which are slow."""
    for norm in (m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.momentum = None
    with torch.no_grad():
        network.train()(torch.rand(8, 1 if isinstance(network, Teacher) else 3, 32, 32) * 255)
    return network.eval()


@pytest.fixture(scope="module")
def backbone():
    """Weights in torchvision's format, with a head of 1000 classes."""
    torch.manual_seed(5)
    return with_statistics(efficientnet_b0(num_classes=1000)).state_dict()


def near(one, other):
    """Equal except for rounding in some eighty layers."""
    return (one - other).abs().max() < 2e-3 * other.abs().max()


def test_teacher_has_the_outputs_of_a_student():
    """Logits, pooled features and good, for tiles of any size, equal to those of torchvision's network."""
    torch.manual_seed(0)
    teacher = with_statistics(Teacher(3, good=True, input_px=32))
    with torch.inference_mode():
        logits, features, good = teacher(torch.rand(2, 1, 32, 32) * 255)
        assert [tuple(t.shape) for t in (logits, features, good)] == [(2, 3), (2, 1280), (2, 1)]
        assert teacher(torch.rand(2, 1, 50, 50) * 255)[0].shape == (2, 3)
        whole = efficientnet_b0(num_classes=3).eval()
        whole.features.load_state_dict(teacher.features.state_dict())
        whole.classifier[1].load_state_dict(teacher.classes.state_dict())
        tile = torch.rand(1, 1, 32, 32) * 255
        mean, spread = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        colour = ((tile / 255).repeat(1, 3, 1, 1) - mean[:, None, None]) / spread[:, None, None]
        assert near(whole(colour), teacher(tile)[0])
        copied = folded(teacher)
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in copied.modules())
        assert near(copied(tile)[0], teacher(tile)[0])


def test_weights_come_from_a_file(backbone, tmp_path):
    """A file of torchvision's weights fills the backbone; the head, of other classes, stays new."""
    torch.save(backbone, tmp_path / "b0.pth")
    teacher = Teacher(3, good=False, input_px=32)
    assert start(teacher, str(tmp_path / "b0.pth")).startswith("file with sha256 ")
    assert torch.equal(teacher.features.state_dict()["4.1.block.0.0.weight"], backbone["features.4.1.block.0.0.weight"])


def test_weights_come_from_the_enum(backbone, monkeypatch):
    """`imagenet` and `auto` get the weights from torchvision, with a check of the hash."""
    asked = []
    monkeypatch.setattr(
        EfficientNet_B0_Weights, "get_state_dict", lambda self, **options: asked.append((self, options)) or backbone
    )
    for weights in ("imagenet", "auto"):
        teacher = Teacher(3, good=False, input_px=32)
        assert start(teacher, weights) == "IMAGENET1K_V1"
        assert torch.equal(teacher.features.state_dict()["0.0.weight"], backbone["features.0.0.weight"])
    assert asked == [(EfficientNet_B0_Weights.IMAGENET1K_V1, {"progress": False, "check_hash": True})] * 2


def test_without_a_download_imagenet_fails_and_auto_trains_from_scratch(monkeypatch):
    """The error of `imagenet` names the remedies; `auto` uses one long schedule."""

    def offline(self, **options):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(EfficientNet_B0_Weights, "get_state_dict", offline)
    with pytest.raises(TrainingError, match=r"no route.*--weights FILE.*--weights none"):
        start(Teacher(2, good=False, input_px=32), "imagenet")
    assert start(Teacher(2, good=False, input_px=32), "auto") == "none"
    recipe = TeacherRecipe()
    assert [s.trained for s in stages(recipe, "none")] == ["all"]
    assert [s.trained for s in stages(recipe, "imagenet")] == ["head", "last", "all"]


def test_file_without_matching_weights_is_refused(tmp_path):
    """A missing file, a file without weights, and weights of another network are refused by name."""
    teacher = Teacher(2, good=False, input_px=32)
    with pytest.raises(TrainingError, match=r"none\.pth: cannot be read: No such file"):
        start(teacher, str(tmp_path / "none.pth"))
    (tmp_path / "text.pth").write_text("hello", "utf-8")
    with pytest.raises(TrainingError, match=r"text\.pth: not a file of weights"):
        start(teacher, str(tmp_path / "text.pth"))
    torch.save({"features.0.0.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(TrainingError, match=r"other\.pth: not the weights of an EfficientNet-B0"):
        start(teacher, str(tmp_path / "other.pth"))


@pytest.mark.parametrize(("trained", "moving"), [("head", 0), ("last", 2), ("all", 9)])
def test_frozen_blocks_do_not_move(trained, moving):
    """Neither the weights nor the BatchNorm statistics of a frozen block change in training."""
    torch.manual_seed(0)
    teacher = Teacher(2, good=False, input_px=32)
    before = [{k: v.clone() for k, v in block.state_dict().items()} for block in teacher.features]
    head = teacher.classes.bias.clone()
    teacher.unfreeze(trained, last_blocks=2)
    optimizer = torch.optim.SGD([p for p in teacher.parameters() if p.requires_grad], lr=0.1)
    teacher.train()(torch.rand(4, 1, 32, 32) * 255)[0].sum().backward()
    optimizer.step()
    after = [block.state_dict() for block in teacher.features]
    moved = [any(not torch.equal(a[k], b[k]) for k in a) for a, b in zip(before, after, strict=True)]
    assert moved == [False] * (9 - moving) + [True] * moving
    assert not torch.equal(head, teacher.classes.bias)


def test_stages_run_in_order_and_are_not_trained_twice(backbone, tmp_path):
    """A second call finds both stages finished and returns the same teacher."""
    torch.save(backbone, tmp_path / "b0.pth")
    recipe = TeacherRecipe(
        weights=str(tmp_path / "b0.pth"), input_px=32, fit=TINY,
        pretrained=(TeacherStage("head", "head", 2, 1e-2), TeacherStage("last", "last", 1, 1e-3)),
    )  # fmt: skip
    seen = []

    def run():
        return train_teacher(
            [stripes(), NONE, NONE, NONE, NONE], stripes(4, 1), recipe, classes=2, good=False, seed=1, folder=tmp_path,
            report=lambda stage, epoch: seen.append((stage.name, epoch.number)),
        )[0]  # fmt: skip

    first = run()
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.glob("teacher-*.pt")}
    assert [p.name for p in sorted(stamps)] == ["teacher-1-head.pt", "teacher-2-last.pt"]
    second = run()
    assert seen == [("head", 1), ("head", 2), ("last", 1)] * 2
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_teacher_from_scratch_learns():
    """With one schedule for everything the loss falls fast on easy pictures."""
    recipe = TeacherRecipe(
        weights="none", input_px=32, fit=Fit(batch=8, plain_share=1), scratch=(TeacherStage("scratch", "all", 6, 3e-3),)
    )  # fmt: skip
    losses = []
    made, origin = train_teacher(
        [stripes(), NONE, NONE, NONE, NONE], stripes(4, 1), recipe, classes=2, good=False, seed=1,
        report=lambda _, epoch: losses.append(epoch.loss),
    )  # fmt: skip
    assert origin == "none"
    assert losses[-1] < 0.6 * losses[0]
    assert all(p.requires_grad for p in made.parameters())


def test_teacher_is_stored_with_its_classes(tmp_path):
    """A saved teacher is loaded unchanged; other classes, another `good` and foreign files are refused by name."""
    teacher = with_statistics(Teacher(2, good=True, input_px=32))
    path = tmp_path / "teacher.pt"
    save(teacher, path, classes=("dent", "rust"), recipe=TeacherRecipe(), origin="none", seed=4)
    again = load(path, classes=("dent", "rust"), good=True)
    tiles = torch.rand(2, 1, 32, 32) * 255
    with torch.inference_mode():
        assert torch.equal(teacher(tiles)[0], again(tiles)[0])
    assert start(Teacher(5, good=False, input_px=32), str(path)).startswith("file")  # the backbone fits any classes
    with pytest.raises(TrainingError, match="is a teacher for dent, rust; the data has patches, scratches"):
        load(path, classes=("patches", "scratches"))
    with pytest.raises(TrainingError, match="has an output for defect-free surface"):
        load(path, classes=("dent", "rust"), good=False)
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(TrainingError, match=r"other\.pt: not a teacher"):
        load(tmp_path / "other.pt", classes=("dent", "rust"))
