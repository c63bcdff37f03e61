"""The hyperparameters of a run."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass

import pytest
from pydantic import TypeAdapter, ValidationError

from trainer.recipe import Distillation, Fit, Recipe, TeacherRecipe


@pytest.mark.parametrize("kind", [Fit, Recipe, Distillation, TeacherRecipe])
def test_default_settings_are_within_their_ranges(kind):
    """The defaults pass the check that a user's file has to pass."""
    assert TypeAdapter(kind).validate_python(asdict(kind())) == kind()


def numbers(kind, prefix=()):
    """The key path of each number of a recipe."""
    for one in fields(kind):
        value = getattr(kind, one.name)
        if is_dataclass(value):
            yield from numbers(value, (*prefix, one.name))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*prefix, one.name)


@pytest.mark.parametrize("kind", [Recipe, Distillation, TeacherRecipe])
def test_every_number_has_a_range(kind):
    """No key accepts a negative number or NaN."""
    for place in numbers(kind()):
        for wrong in (-1, float("nan")):
            given = asdict(kind())
            inner = given
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = wrong
            with pytest.raises(ValidationError) as refused:
                TypeAdapter(kind).validate_python(given)
            assert place[-1] in str(refused.value)


@pytest.mark.parametrize("change", [{"trained": "tail"}, {"epochs": 0}, {"learning_rate": 0}])
def test_an_impossible_teacher_stage_is_refused(change):
    """A stage trains head, last or all, for at least one epoch, with a positive learning rate."""
    given = asdict(TeacherRecipe())
    given["scratch"][0].update(change)
    with pytest.raises(ValidationError, match=next(iter(change))):
        TypeAdapter(TeacherRecipe).validate_python(given)
