"""The training's surface in a card: near tiles, far tiles, and parts that cannot be used."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import bundles
from pydantic import ValidationError

from edge.errors import BundleError
from edge.model import bundle, surface
from edge.model.classifier import Classifier
from edge.model.surface import Surface, decoded, measured

KINDS = ["a"] * 60 + ["b"] * 60


def tiles(centre: float, count: int = 60) -> np.ndarray:
    rng = np.random.default_rng([count, *np.atleast_1d(centre).view(np.uint64).tolist()])
    return (centre + rng.random((count, 30))).astype(np.float32)


@pytest.fixture(scope="module")
def part() -> Surface:
    return measured(np.concatenate((tiles(1.0), tiles(3.0))), KINDS, ("a",))


def test_tiles_of_the_training_are_near_and_others_far(part: Surface) -> None:
    """Most tiles like those of a kind lie within 1, tiles between the kinds and beyond them far outside."""
    known = decoded(part)
    near = np.concatenate((known.distances(tiles(1.0)), known.distances(tiles(3.0))))
    assert np.median(near) < 1.0
    assert min(known.distances(tiles(9.0)).min(), known.distances(tiles(0.0)).min()) > 3 * np.median(near)


def test_memory_holds_tiles_of_the_wanted_kinds(part: Surface) -> None:
    """A few of each, nearly as the network gave them."""
    memory = decoded(part).memory
    assert set(memory.labels) == {"a"}
    assert memory.values.shape == (surface.REMEMBERED, 30)
    assert 0.9 < memory.values.min() <= memory.values.max() < 2.1


def test_score_that_is_not_a_number_has_no_distance(part: Surface) -> None:
    """The watch leaves it out."""
    values = tiles(1.0, 2)
    values[0, 3] = np.nan
    assert np.isnan(decoded(part).distances(values)).tolist() == [True, False]


@pytest.mark.parametrize("change", [{"centre": "AAAA"}, {"kinds": 3}, {"basis": "?"}, {"memory_labels": ("a",)}])
def test_part_that_does_not_fit_together_is_refused(part: Surface, change: dict[str, object]) -> None:
    """As every damaged card is: when the bundle is read."""
    with pytest.raises(ValidationError):
        Surface.model_validate({**part.model_dump(), **change})


def test_part_for_another_network_fails_the_self_test(part: Surface) -> None:
    """The shipped card fits its network; a card without the part is read as before, and nothing is compared."""
    made = bundles.bundle()
    assert Classifier(made).surface is None
    foreign = made.card.model_copy(update={"surface": part})
    with pytest.raises(BundleError, match="30 columns, the network 2"):
        Classifier(bundle.Bundle("memory", foreign, made.networks)).selftest()
    shipped = Classifier(bundle.load("builtin"))
    shipped.selftest()
    assert shipped.surface is not None
    assert set(shipped.card.classes) < set(shipped.surface.memory.labels)
