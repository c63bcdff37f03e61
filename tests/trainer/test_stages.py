"""The table of contents of a training."""

from __future__ import annotations

from dataclasses import replace

from trainer import plan
from trainer.pipeline import STAGES


def test_the_table_has_the_stages_of_a_complete_plan_in_order():
    """Every stage that a plan can name has a row, in the same order."""
    default = plan.load("default")
    complete = replace(
        default, folds=plan.Folds(), final=True, measure=replace(default.measure, unknown=("scratches",))
    )
    assert tuple(stage.name for stage in STAGES) == complete.stages


def test_a_stage_needs_only_earlier_stages():
    """Each row names stages of the rows above it."""
    names = [stage.name for stage in STAGES]
    for number, stage in enumerate(STAGES):
        assert set(stage.needs) <= set(names[:number])


def test_the_stages_that_several_processes_share_come_first():
    """Under torchrun all processes leave together, after the last training stage."""
    distributed = [stage.distributed for stage in STAGES]
    assert distributed == sorted(distributed, reverse=True)
