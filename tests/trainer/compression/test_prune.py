"""Structured pruning."""

from __future__ import annotations

import pytest
import torch

from trainer.compression.prune import MAX_WEIGHTS, Pruning, importance, plan, shrink, with_channels
from trainer.networks.architecture import Architecture, Conv, Student
from trainer.recipe import TrainingError

SMALL = Architecture("small", 32, (Conv(8, 4, 4), Conv(16, 3, 2), Conv(24, 3, 1)))


@pytest.fixture
def student():
    torch.manual_seed(0)
    made = Student(SMALL, 3, good=True)
    made.train()
    for _ in range(3):  # gives BatchNorm its statistics
        made(torch.rand(16, 1, 32, 32) * 255)
    return made.eval()


def batches(count=2):
    torch.manual_seed(1)
    return [(torch.rand(12, 1, 32, 32) * 255, torch.arange(12) % 4) for _ in range(count)]


def silenced(student, layer, channels):
    """The student with some channels that are always 0."""
    with torch.no_grad():
        student.norms[layer].weight[channels] = 0
        student.norms[layer].bias[channels] = -1
    return student


def test_macs_are_those_of_the_real_layers(student):
    """The count agrees with the sizes that hooks on the real modules measure."""
    seen = []
    for conv in student.convs:
        conv.register_forward_hook(lambda m, _, out: seen.append(out[0].numel() * m.weight[0].numel()))
    student(torch.zeros(1, 1, 32, 32))
    assert SMALL.macs == sum(seen)


@pytest.mark.parametrize("criterion", ["l1", "taylor"])
def test_silent_channels_are_removed_first_without_changing_the_outputs(student, criterion):
    """Both criteria find channels that are always 0, and the smaller network has exactly the same outputs."""
    silent = {0: [1, 4, 5, 6], 1: [0, 2, 3, 9, 10, 11, 14, 15], 2: [*range(0, 24, 3)]}
    for layer, channels in silent.items():
        silenced(student, layer, channels)
    kept = plan(SMALL, importance(student, batches(), criterion), with_channels(SMALL, (4, 8, 16)).macs, 4)
    assert [sorted(set(range(c.channels)) - set(k.tolist())) for c, k in zip(SMALL.convs, kept, strict=True)] == [
        *silent.values()
    ]
    tiles = batches()[0][0]
    logits, features, good = student(tiles)
    smaller = shrink(student, kept)
    for new, old in zip(smaller(tiles), (logits, features[:, kept[-1]], good), strict=True):
        torch.testing.assert_close(new, old, atol=1e-4, rtol=1e-4)


def test_channels_are_really_gone(student):
    """The network has the parameters of its new widths, not masks, and trains on."""
    kept = plan(SMALL, importance(student, batches(), "taylor"), SMALL.macs // 3, 4)
    smaller = shrink(student, kept)
    assert smaller.architecture.macs <= SMALL.macs // 3
    assert all(c.channels % 4 == 0 for c in smaller.architecture.convs)
    fresh = Student(smaller.architecture, 3, good=True)
    assert {n: p.shape for n, p in smaller.named_parameters()} == {n: p.shape for n, p in fresh.named_parameters()}
    smaller.train()(torch.rand(4, 1, 32, 32))[0].sum().backward()
    assert all(p.grad is not None for n, p in smaller.named_parameters() if "good" not in n)


def test_importance_leaves_the_student_unchanged(student):
    """No gradient or hook remains, and no statistic changes."""
    before = {n: v.clone() for n, v in student.state_dict().items()}
    first, second = (importance(student, batches(), "taylor") for _ in range(2))
    assert all(torch.equal(v, before[n]) for n, v in student.state_dict().items())
    assert all(p.grad is None for p in student.parameters())
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(norm._forward_hooks for norm in student.norms)


def test_rounds_go_down_by_equal_ratios_to_the_target():
    """Two rounds from 16 to 4 million MACs go through 8 million."""
    assert Pruning(macs=4_000_000, rounds=2).targets(16_000_000) == (8_000_000, 4_000_000)
    with pytest.raises(TrainingError, match="already no more"):
        Pruning(macs=4_000_000).targets(3_000_000)


def test_few_macs_with_too_many_weights_are_pruned_on():
    """The last layers hold most weights and few MACs: a file that is too large would be refused after the training."""
    wide = Architecture(
        "wide", 100, (Conv(32, 4, 4), Conv(64, 3, 2), Conv(128, 3, 2), Conv(128, 3, 1), Conv(192, 3, 2))
    )
    importances = [torch.ones(conv.channels) for conv in wide.convs[:-1]] + [torch.full((192,), 1e6)]

    def planned(weights):
        kept = plan(wide, importances, 9_000_000, 16, weights)
        return with_channels(wide, [len(k) for k in kept])

    assert planned(None).weights > MAX_WEIGHTS
    assert planned(MAX_WEIGHTS).weights <= MAX_WEIGHTS


def test_a_target_out_of_reach_is_refused(student):
    """The message gives the size of the narrowest network."""
    with pytest.raises(TrainingError, match=r"multiples of 8: the narrowest network has [\d,]+"):
        plan(SMALL, importance(student, [], "l1"), 100, 8)
