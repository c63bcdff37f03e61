"""The record of a run, and the figures it gives to the card."""

from __future__ import annotations

import json

import pytest
from fakes import record as fakes_record

from trainer.evaluation.record import Curve, Record
from trainer.recipe import TrainingError
from trainer.training.loop import Epoch


@pytest.fixture(scope="module")
def record():
    return fakes_record.record()


def test_record_can_be_written_and_read(record, tmp_path):
    """The file is standard JSON and restores every part."""
    record.write(tmp_path / "run" / "record.json")
    assert Record.load(tmp_path / "run" / "record.json") == record
    text = (tmp_path / "run" / "record.json").read_text("utf-8")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_record_without_measurements_can_be_written_and_read(record, tmp_path):
    """A part that was not measured is empty, not an error."""
    bare = fakes_record.record(summaries=(), comparisons=(), curves=(), good=(), unknown=(), pruning=(), latency=None)
    bare.write(tmp_path / "record.json")
    assert Record.load(tmp_path / "record.json") == bare
    assert bare.headline() is None
    assert bare.metrics() == {"machine": record.machine, "seed": 7}


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"name": "x"}'])
def test_damaged_record_is_refused_by_name(damage, tmp_path):
    """The message names the file and the remedy."""
    (tmp_path / "record.json").write_bytes(damage)
    with pytest.raises(TrainingError, match=r"record\.json: not the record of a run"):
        Record.load(tmp_path / "record.json")


def test_headline_is_the_shipped_variant_on_the_most_pictures(record):
    """The folds before the 72 test pictures; fp32 before int8; never the teacher."""
    headline = record.headline()
    assert (headline.variant, headline.split, headline.right.of) == ("pruned", "grouped 5-fold", 600)


def test_card_gets_every_figure_with_its_n(record):
    """Accuracy, robustness, defect-free surface, unknown class, latency; only of variants that ship."""
    metrics = record.metrics()
    assert set(metrics["accuracy"]) == {"grouped 5-fold", "test"}
    assert set(metrics["accuracy"]["grouped 5-fold"]) == {"pruned", "int8 in folds"}
    assert metrics["accuracy"]["test"]["fp32"]["n"] == 72
    assert len(metrics["robustness"]["test"]["int8"]["right"]) == 15
    assert metrics["good_surface"][1]["n_negative"] == 400
    assert metrics["latency"]["times_the_reference"]["int8"]["call"] == 44.0
    json.dumps(metrics, allow_nan=False)


def test_curve_has_the_epochs_that_fit_reports():
    """One point for each epoch; without held-out tiles there is no accuracy."""
    curve = Curve.of("student", [Epoch(1, 0.5, 90, 100), Epoch(2, 0.25, 0, 0)], 12.0)
    assert [(p.epoch, p.loss, p.held_out) for p in curve.points] == [(1, 0.5, 0.9), (2, 0.25, None)]
