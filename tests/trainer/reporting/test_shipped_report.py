"""docs/model belongs to the model that ships."""

from __future__ import annotations

from pathlib import Path

from edge.model.bundle import load
from trainer.evaluation.record import Record
from trainer.reporting import report

FOLDER = Path(__file__).parents[3] / "docs" / "model"
AGAIN = "write it again from its record: report.write(Record.load(...), folder)"


def test_record_is_of_the_networks_that_ship():
    """The same files, classes and counts as in the card of the shipped bundle."""
    record, shipped = Record.load(FOLDER / "record.json"), load("builtin")
    assert {one.name: one.sha256 for one in record.files} == shipped.card.files
    assert {one.name: one.bytes for one in record.files} == {n: len(c) for n, c in shipped.networks.items()}
    assert (record.classes, record.temperature) == (shipped.card.classes, shipped.card.temperature)
    counts = shipped.card.metrics["accuracy"]
    for summary in record.of_shipped():
        known = counts[summary.split][summary.variant]
        assert (known["n"], known["right"]) == (summary.right.of, summary.right.right)


def test_report_is_made_from_the_record():
    """What people read says what the record holds; only figures are not compared."""
    record = Record.load(FOLDER / "record.json")
    blocks = report.report(record)
    assert (FOLDER / report.REPORT).read_text("utf-8") == report.to_markdown(blocks, report.FIGURES), AGAIN
    shown = {f"{block.name}.svg" for block in blocks if isinstance(block, report.Figure)}
    assert shown <= {path.name for path in (FOLDER / report.FIGURES).iterdir()}
