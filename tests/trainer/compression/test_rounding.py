"""Rounded weights approximate the outputs of the exact ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper

from trainer.compression.rounding import _columns, rounded


def power(columns):
    return columns.T @ columns / len(columns)


def correlated(places, inputs, seed=0):
    """Correlated inputs, like the pixels of a picture."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(places, 4)) @ rng.normal(size=(4, inputs)) + 0.3 * rng.normal(size=(places, inputs))


def test_rounding_with_compensation_beats_plain_rounding():
    """On new inputs the error of the outputs is less than half of that of rounding to the nearest integers."""
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(8, 36))
    scale = np.abs(weight).max(1) / 63
    calibration, fresh = np.split(correlated(6000, 36), 2)
    compensated = rounded(weight, scale, power(calibration), 7) * scale[:, None]
    plain = np.rint(weight / scale[:, None]) * scale[:, None]
    errors = [float(np.square(fresh @ (made - weight).T).mean()) for made in (compensated, plain)]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize(("bits", "low", "high"), [(7, -64, 63), (8, -128, 127)])
def test_rounded_weights_are_integers_in_range(bits, low, high):
    """Compensation never pushes a weight out of the range of the integer type."""
    weight = np.random.default_rng(2).normal(size=(5, 20))
    scale = np.abs(weight).max(1) / high
    integers = rounded(weight, scale, power(correlated(500, 20)), bits)
    assert (integers == np.rint(integers)).all()
    assert low <= integers.min() <= integers.max() <= high


def test_inputs_that_are_always_zero_do_no_harm():
    """A channel of zeros makes the statistics singular, and the rounding stays finite."""
    weight, columns = np.random.default_rng(3).normal(size=(3, 12)), correlated(300, 12)
    columns[:, 4:8] = 0
    assert np.isfinite(rounded(weight, np.abs(weight).max(1) / 63, power(columns), 7)).all()


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((3, 3), (1, 1), 1), ((3, 3), (2, 2), 1), ((4, 1), (4, 1), 0)]
)
def test_columns_are_what_the_convolution_multiplies(kernel, stride, padding):
    """Columns times flattened weights are the outputs of the convolution: order, stride and padding are correct."""
    seen = np.random.default_rng(4).normal(size=(2, 3, 12, 9)).astype(np.float32)
    weight = np.random.default_rng(5).normal(size=(5, 3, *kernel))
    conv = helper.make_node("Conv", ["x", "w", "b"], ["y"], kernel_shape=kernel, strides=stride, pads=[padding] * 4)
    made = np.sort((_columns(seen, conv, weight.shape) @ weight.reshape(5, -1).T).ravel())
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(seen).double(), torch.from_numpy(weight), None, stride, padding
    )
    assert made == pytest.approx(np.sort(expected.numpy().ravel()), abs=1e-6)
