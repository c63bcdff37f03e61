"""The losses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from trainer.recipe import Distillation, TrainingError
from trainer.training.losses import DistillationLoss, LabelLoss, folded


class Fixed(nn.Module):
    """A teacher with constant outputs."""

    def __init__(self, logits, good=None):
        super().__init__()
        self.logits, self.good_logit = logits, good
        self.classes = nn.Linear(4, len(logits[0]))

    def forward(self, tiles):
        return self.logits, torch.ones(len(tiles), 4), self.good_logit


TILES, LABELS = torch.zeros(2, 1, 8, 8), torch.tensor([0, 2])
LOGITS, GOOD = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 1.0]]), torch.tensor([[0.3], [-0.2]])
STUDENT = (LOGITS, torch.ones(2, 3), GOOD)
TAUGHT, TAUGHT_GOOD = torch.tensor([[1.0, 0.2, 0.0], [0.0, 2.0, 1.0]]), torch.tensor([[1.0], [0.0]])


def softened(rows, tau):
    """Softmax by hand."""
    powers = [[math.exp(v / tau) for v in row] for row in rows]
    return [[p / sum(row) for p in row] for row in powers]


@pytest.mark.parametrize(("alpha", "tau"), [(0.0, 1.0), (0.3, 4.0), (1.0, 2.0)])
def test_distillation_is_the_formula(alpha, tau):
    """alpha * CE + (1 - alpha) * tau^2 * KL(teacher || student), over classes and good in one softmax."""
    mine = torch.cat([LOGITS, GOOD], 1).tolist()
    taught = torch.cat([TAUGHT, TAUGHT_GOOD], 1).tolist()
    entropy = -sum(math.log(softened(mine, 1)[row][label]) for row, label in enumerate(LABELS.tolist())) / 2
    pairs = zip(softened(taught, tau), softened(mine, tau), strict=True)
    divergence = sum(t * math.log(t / s) for rows in pairs for t, s in zip(*rows, strict=True)) / 2
    loss = DistillationLoss([Fixed(TAUGHT, TAUGHT_GOOD)], Distillation(alpha, tau))
    expected = alpha * entropy + (1 - alpha) * tau**2 * divergence
    assert float(loss(STUDENT, LABELS, TILES)) == pytest.approx(expected, rel=1e-5)


def test_the_target_of_several_teachers_is_their_mean_probability():
    """It is the mean of the probabilities, not of the logits."""
    sure = torch.tensor([[8.0, 0.0, 0.0]] * 2)
    other = torch.tensor([[0.0, 2.0, 0.0]] * 2)
    mean = ((sure.softmax(1) + other.softmax(1)) / 2).log()
    student = (LOGITS, torch.ones(2, 3), None)
    recipe = Distillation(alpha=0.0, tau=1.0)
    both = DistillationLoss([Fixed(sure), Fixed(other)], recipe)(student, LABELS, TILES)
    assert float(both) == pytest.approx(
        float(DistillationLoss([Fixed(mean)], recipe)(student, LABELS, TILES)), rel=1e-5
    )
    averaged = DistillationLoss([Fixed((sure + other) / 2)], recipe)(student, LABELS, TILES)
    assert float(both) != pytest.approx(float(averaged), rel=0.01)


def test_teachers_are_not_trained_and_the_projection_of_the_features_is():
    """Feature distillation adds one trained linear map; the teacher is not among parameters and state."""
    loss = DistillationLoss([Fixed(TAUGHT, TAUGHT_GOOD)], Distillation(features=0.5), student_features=3)
    assert {name for name, _ in loss.named_parameters()} == {"images.0.weight", "images.0.bias"}
    loss(STUDENT, LABELS, TILES).backward()
    assert loss.images[0].weight.grad.abs().sum() > 0
    assert all(not p.requires_grad for p in loss.teachers[0].parameters())
    with torch.no_grad():  # now it equals the features of the teacher
        loss.images[0].weight.zero_()
        loss.images[0].bias.fill_(2.0)
        without = DistillationLoss([Fixed(TAUGHT, TAUGHT_GOOD)], Distillation())
        assert float(loss(STUDENT, LABELS, TILES)) == pytest.approx(float(without(STUDENT, LABELS, TILES)), rel=1e-5)


def test_folded_teacher_has_the_same_outputs():
    """BatchNorm in a Sequential disappears from the copy, not from the original."""
    torch.manual_seed(0)
    whole = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.ReLU())
    for _ in range(3):
        whole(torch.rand(8, 1, 9, 9) * 3)
    copied = folded(whole)
    tiles = torch.rand(4, 1, 9, 9)
    assert torch.allclose(copied(tiles), whole.eval()(tiles), atol=1e-5)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in copied.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in whole.modules())
    assert all(p.requires_grad for p in whole.parameters())


def test_teacher_with_other_outputs_is_refused():
    """A teacher without `good` cannot teach a student with `good`; distillation needs a teacher."""
    with pytest.raises(TrainingError, match="the teacher has 3 outputs, the student 4"):
        DistillationLoss([Fixed(TAUGHT)], Distillation())(STUDENT, LABELS, TILES)
    with pytest.raises(TrainingError, match="at least one teacher"):
        DistillationLoss([], Distillation())


def test_different_losses_have_different_identities():
    """Another teacher, another alpha or other smoothing changes the identity."""
    losses = [LabelLoss(), LabelLoss(0.1)]
    losses += [DistillationLoss([Fixed(TAUGHT)], Distillation(alpha=alpha)) for alpha in (0.1, 0.2, 0.2)]
    assert len({loss.identity for loss in losses}) == 5
