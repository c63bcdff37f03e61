"""Augmentation."""

from __future__ import annotations

import pytest
import torch

from trainer.augment import augment


@pytest.mark.parametrize("strength", [0.0, 0.35, 1.0])
def test_augment_keeps_shape_and_range(strength):
    """Any strength gives finite float32 tiles of the same size within 0 to 255."""
    tiles = torch.randint(0, 256, (32, 100, 100), dtype=torch.uint8)
    out = augment(tiles, strength, 0.5, torch.Generator().manual_seed(0))
    assert out.shape == (32, 1, 100, 100)
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 255


def test_augment_without_strength_only_turns_and_mirrors():
    """At strength 0 every tile keeps its gray values, only their places change."""
    tiles = torch.randint(0, 256, (16, 50, 50), dtype=torch.uint8)
    out = augment(tiles, 0.0, 0.5, torch.Generator().manual_seed(0))
    before = tiles.flatten(1).float().sort(1).values
    assert torch.allclose(out.flatten(1).sort(1).values, before, atol=0.05)


def test_augment_leaves_part_of_a_batch_unwarped():
    """Only the first half is resampled: the other half keeps a one-pixel pattern sharp at strength without blur."""
    checks = (torch.arange(64)[:, None] + torch.arange(64)[None, :]) % 2 * 100 + 60
    tiles = checks.to(torch.uint8).expand(40, 64, 64)
    out = augment(tiles, 0.2, 0.5, torch.Generator().manual_seed(0))
    contrast = (out[..., 1:] - out[..., :-1]).abs().mean((1, 2, 3))
    assert contrast[20:].median() > 2 * contrast[:20].median()


def test_augment_is_reproducible():
    """The same generator gives the same tiles."""
    tiles = torch.randint(0, 256, (8, 100, 100), dtype=torch.uint8)
    a, b = (augment(tiles, 1.0, 0.5, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a, b)
