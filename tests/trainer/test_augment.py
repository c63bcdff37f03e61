"""Augmentation."""

from __future__ import annotations

import pytest
import torch

from trainer.augment import Changes, augment


@pytest.mark.parametrize("strength", [0.0, 0.35, 1.0])
def test_augment_keeps_shape_and_range(strength):
    """Any strength gives finite float32 tiles of the same size, 0 to 255."""
    tiles = torch.randint(0, 256, (32, 100, 100), dtype=torch.uint8)
    out = augment(tiles, Changes(strength), torch.Generator().manual_seed(0))
    assert out.shape == (32, 1, 100, 100)
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 255


def test_augment_without_strength_only_rotates_and_mirrors():
    """At strength 0 every tile keeps its gray values; only their positions change."""
    tiles = torch.randint(0, 256, (16, 50, 50), dtype=torch.uint8)
    out = augment(tiles, Changes(0.0), torch.Generator().manual_seed(0))
    before = tiles.flatten(1).float().sort(1).values
    assert torch.allclose(out.flatten(1).sort(1).values, before, atol=0.05)


def test_augment_leaves_part_of_a_batch_unwarped():
    """Only the first half is resampled: the other half keeps a one-pixel pattern sharp."""
    checks = (torch.arange(64)[:, None] + torch.arange(64)[None, :]) % 2 * 100 + 60
    tiles = checks.to(torch.uint8).expand(40, 64, 64)
    out = augment(tiles, Changes(0.2), torch.Generator().manual_seed(0))
    contrast = (out[..., 1:] - out[..., :-1]).abs().mean((1, 2, 3))
    assert contrast[20:].median() > 2 * contrast[:20].median()


def test_augment_is_reproducible():
    """The same generator gives the same tiles."""
    tiles = torch.randint(0, 256, (8, 100, 100), dtype=torch.uint8)
    a, b = (augment(tiles, Changes(), torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a, b)


def test_plain_tiles_have_no_noise_and_no_blur():
    """If all tiles are plain and none is warped, flat areas stay smooth."""
    tiles = torch.full((64, 40, 40), 60, dtype=torch.uint8)
    tiles[:, :, 20:] = 160
    out = augment(tiles, Changes(plain=1.0, warped=0.0, noise=50.0), torch.Generator().manual_seed(1))[1:, 0]
    middle = out[:, 5:15, 5:15]
    curved = (middle[:, :, 2:] - 2 * middle[:, :, 1:-1] + middle[:, :, :-2]).abs()
    assert curved.max() < 0.5  # light may change across the tile, but smoothly


def test_noise_has_the_requested_strength():
    """On flat gray the largest standard deviation of many tiles is close to the requested one."""
    tiles = torch.full((256, 64, 64), 128, dtype=torch.uint8)
    out = augment(tiles, Changes(plain=0.0, warped=0.0, noise=10.0), torch.Generator().manual_seed(2))[:, 0]
    spread = (out[:, :, 1:] - out[:, :, :-1]).flatten(1).std(1) / 2**0.5
    assert 9 < spread.max() < 10.5
    assert 0.2 < (spread < 0.5).float().mean() < 0.6  # some tiles get no noise


def test_every_tile_has_its_own_noise():
    """The noise of different tiles is uncorrelated."""
    tiles = torch.full((64, 32, 32), 128, dtype=torch.uint8)
    out = augment(tiles, Changes(plain=0.0, noise=40.0), torch.Generator().manual_seed(3))[:, 0]
    steps = out.diff(dim=2).flatten(1)  # light changes linearly: its differences are constant
    noisy = steps[steps.std(1) > 3]
    assert len(noisy) > 15
    assert (torch.corrcoef(noisy) - torch.eye(len(noisy))).abs().max() < 0.3


def test_a_pixel_that_was_brighter_stays_brighter():
    """The gray curve keeps the order of gray values."""
    ramp = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 256).expand(64, 256, 256).contiguous()
    out = augment(ramp, Changes(plain=0.0, warped=0.0, noise=0.0), torch.Generator().manual_seed(4))[1:, 0]
    across, down = (out[:, 128].diff(dim=1), out[:, :, 128].diff(dim=1))
    steps = torch.where((across.abs().sum(1) > down.abs().sum(1))[:, None], across, down)
    ordered = (steps >= -0.6).all(1) | (steps <= 0.6).all(1)  # uneven light may outweigh single steps
    assert ordered.float().mean() > 0.8
