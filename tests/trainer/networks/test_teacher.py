"""The teacher, without downloads."""

from __future__ import annotations

import pytest
import torch

from trainer.data.samples import Samples
from trainer.networks.backbones import B0, LITE0, start
from trainer.networks.teacher import Teacher, load, save, stages, train_teacher
from trainer.networks.torchvision_backbone import efficientnet_b0
from trainer.recipe import Distillation, Fit, TeacherRecipe, TeacherStage, TrainingError
from trainer.training.losses import DistillationLoss, folded

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


def test_stages_depend_on_the_first_weights():
    """Random weights get one long schedule; ImageNet weights are released stage by stage."""
    recipe = TeacherRecipe()
    assert [s.trained for s in stages(recipe, "none")] == ["all"]
    assert [s.trained for s in stages(recipe, "EfficientNet-B0, IMAGENET1K_V1")] == ["head", "last", "all"]


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


def test_frozen_teacher_learns_from_features_alone(backbone, tmp_path):
    """The backbone stays as it was, and the tiles are right; without ImageNet weights it is refused."""
    torch.save(backbone, tmp_path / "b0.pth")
    recipe = TeacherRecipe(weights=str(tmp_path / "b0.pth"), frozen=True, input_px=32)
    empty = [NONE, NONE, NONE, NONE]
    made, origin = train_teacher([stripes(24), *empty], NONE, recipe, classes=2, good=True, seed=1)
    assert origin.startswith("EfficientNet-B0, file with sha256 ")
    assert torch.equal(made.features.state_dict()["0.0.weight"], backbone["features.0.0.weight"])
    known = stripes(24)
    with torch.inference_mode():
        logits, _, good = made(known.tiles[:, :1].float())
    assert (logits.argmax(1) == known.labels).all()
    assert (good[:, 0] < logits.max(1).values).all()  # no tile showed good surface
    with pytest.raises(TrainingError, match=r"teacher\.frozen: needs ImageNet weights.*defectd\[teacher\]"):
        train_teacher(
            [stripes(), *empty], NONE, TeacherRecipe(weights="none", frozen=True), classes=2, good=False, seed=1
        )


def test_a_teacher_knows_its_backbone(tmp_path):
    """A teacher on Lite0 is loaded with its backbone, its input size and its normalisation."""
    teacher = with_statistics(Teacher(2, good=False, input_px=32, backbone=LITE0))
    path = tmp_path / "teacher.pt"
    save(teacher, path, classes=("dent", "rust"), recipe=TeacherRecipe(), origin="none")
    again = load(path, classes=("dent", "rust"))
    tiles = torch.rand(2, 1, 50, 50) * 255
    with torch.inference_mode():
        assert torch.equal(teacher(tiles)[0], again(tiles)[0])
        assert near(folded(teacher)(tiles)[0], teacher(tiles)[0])
    assert start("auto", str(path)).backbone is LITE0


def test_teachers_on_several_backbones_teach_together():
    """Logits and features of B0 and Lite0; the student gets a gradient from both, the projections stay in the loss."""
    torch.manual_seed(2)
    teachers = [with_statistics(Teacher(2, good=False, input_px=32, backbone=one)) for one in (B0, LITE0)]
    loss = DistillationLoss(teachers, Distillation(features=0.5), student_features=8)
    assert [tuple(image.weight.shape) for image in loss.images] == [(1280, 8), (1280, 8)]
    logits, features = torch.zeros(3, 2, requires_grad=True), torch.ones(3, 8, requires_grad=True)
    loss((logits, features, None), torch.tensor([0, 1, 0]), torch.rand(3, 1, 20, 20) * 255).backward()
    assert logits.grad.abs().sum() > 0
    assert features.grad.abs().sum() > 0


def test_teacher_is_stored_with_its_classes(tmp_path):
    """A saved teacher is loaded unchanged; other classes, another `good` and foreign files are refused by name."""
    teacher = with_statistics(Teacher(2, good=True, input_px=32))
    path = tmp_path / "teacher.pt"
    save(teacher, path, classes=("dent", "rust"), recipe=TeacherRecipe(), origin="none", seed=4)
    again = load(path, classes=("dent", "rust"), good=True)
    tiles = torch.rand(2, 1, 32, 32) * 255
    with torch.inference_mode():
        assert torch.equal(teacher(tiles)[0], again(tiles)[0])
    assert "file" in start("auto", str(path)).origin  # the backbone fits any classes
    with pytest.raises(TrainingError, match="is a teacher for dent, rust; the data has patches, scratches"):
        load(path, classes=("patches", "scratches"))
    with pytest.raises(TrainingError, match="has an output for defect-free surface"):
        load(path, classes=("dent", "rust"), good=False)
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(TrainingError, match=r"other\.pt: not a teacher"):
        load(tmp_path / "other.pt", classes=("dent", "rust"))
