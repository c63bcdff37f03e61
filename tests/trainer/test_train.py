"""The one loop."""

from __future__ import annotations

import pytest
import torch

from trainer import data
from trainer.models import I100_S4, Student
from trainer.recipe import Recipe
from trainer.samples import Samples, tiles
from trainer.train import fit, predict


@pytest.fixture(scope="module")
def samples(class_folder):
    return tiles(data.index(class_folder).splits["train"], 100, seed=0)


def run(samples, seed, epochs):
    torch.manual_seed(seed)
    student = Student(I100_S4, 3, good=False)
    epochs_seen = []
    none = Samples(torch.empty((0, 2, 100, 100), dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
    recipe = Recipe(epochs=epochs, batch=9, average=0.9, light_from=0.2)
    trained = fit(student, [samples, none, none, none], samples, recipe, seed=seed, report=epochs_seen.append)
    return trained, epochs_seen


def test_fit_lowers_the_loss_and_learns(samples):
    """After some epochs on easy pictures the loss has fallen and most are told apart."""
    trained, epochs = run(samples, 0, 25)
    assert [e.number for e in epochs] == list(range(1, 26))
    assert epochs[-1].loss < 0.7 * epochs[0].loss
    assert (predict(trained, samples) == samples.labels).float().mean() > 0.8


def test_fit_is_reproducible(samples):
    """The same seed gives the same weights, another seed others."""
    first, second, other = (run(samples, seed, 2)[0].state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["classes.weight"], other["classes.weight"])


def test_student_has_the_size_that_was_measured():
    """i100_s4 with six classes has 116,310 parameters once BatchNorm is folded, and 97 more for `good`."""
    student = Student(I100_S4, 6, good=True)
    norms = sum(p.numel() for _, norm in student.pairs() for p in norm.parameters())
    biases = sum(conv.out_channels for conv, _ in student.pairs())
    assert sum(p.numel() for p in student.parameters()) - norms + biases == 116_310 + 97
