"""The linear layer on frozen features."""

from __future__ import annotations

import torch
from torch import nn

from trainer.training import linear_head


class Corner(nn.Module):
    """The gray values of the upper left pixel and of its right neighbour as features."""

    def __init__(self):
        super().__init__()
        self.classes = nn.Linear(2, 3)

    def forward(self, tiles):
        return self.classes(tiles[:, 0, 0, :2]), tiles[:, 0, 0, :2], None


def test_features_are_those_of_each_view():
    """As it is, mirrored, mirrored about the diagonal, upside down; with one view only the first."""
    tiles = torch.arange(2 * 9, dtype=torch.uint8).view(2, 3, 3)
    found = linear_head.features(Corner(), tiles)
    assert found[0].tolist() == [[0, 1], [2, 1], [0, 3], [8, 7]]
    assert found[1].tolist() == [[9, 10], [11, 10], [9, 12], [17, 16]]
    assert torch.equal(linear_head.features(Corner(), tiles, views=1)[:, 0], found[:, 0])


def test_layer_separates_what_is_separable_and_keeps_its_weights_small():
    """Clusters of different scale are all right; a stronger penalty gives smaller weights."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(90) % 3
    centres = torch.tensor([[0.0, 1000.0], [1.0, 1000.0], [0.0, 3000.0]])
    rows = centres[labels] + torch.randn(90, 2, generator=generator) * torch.tensor([0.1, 100.0])
    weight, bias = linear_head.fitted(rows[:, None], labels, 3)
    assert ((rows @ weight.T + bias).argmax(1) == labels).all()
    smaller, _ = linear_head.fitted(rows[:, None], labels, 3, penalty=1.0)
    assert smaller.norm() < weight.norm() / 5


def test_an_output_without_examples_stays_unlikely():
    """A network with an output for good surface, of which there is no tile."""
    rows, labels = torch.tensor([[0.0], [1.0], [0.1], [0.9]]), torch.tensor([0, 1, 0, 1])
    weight, bias = linear_head.fitted(rows[:, None], labels, 3)
    assert ((rows @ weight.T + bias).argmax(1) == labels).all()
