"""The command, from folder to bundle."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from edge.bundle import load
from edge.vision.classifier import Classifier
from trainer.cli import main


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def made(split_folder, tmp_path_factory):
    """A bundle trained in a hurry on the small folder."""
    out = tmp_path_factory.mktemp("bundle")
    result = run("student", "--data", split_folder, "--out", out, "--quick", "--test")
    assert result.exit_code == 0, result.output
    return out


def test_student_writes_a_bundle_that_the_edge_accepts(made):
    """Trained, exported, described: it loads, passes its self-test and has a card with counts."""
    bundle = load(made)
    Classifier(bundle).selftest()
    assert bundle.card.has_good
    assert bundle.card.metrics["test"]["n"] == 9
    assert bundle.card.training["pictures"] == {"train": 28, "held_out": 4, "valid": 12, "test": 12}


def test_card_names_no_place_of_this_machine(made, split_folder):
    """Nothing in the card tells where it was trained."""
    text = (made / "card.json").read_text("utf-8")
    assert str(split_folder) not in text
    assert "/home/" not in text


def test_student_without_sound_examples_has_no_good_output(class_folder, tmp_path):
    """Classes the strip does not know, no boxes, no good folder: the bundle promises no `good`."""
    for name in ("dent", "rust"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for n, picture in enumerate(sorted((class_folder / "patches").iterdir())):
            (tmp_path / "data" / name / f"{n}.png").write_bytes(picture.read_bytes())
    result = run("student", "--data", tmp_path / "data", "--out", tmp_path / "out", "--quick")
    assert result.exit_code == 0, result.output
    bundle = load(tmp_path / "out")
    assert not bundle.card.has_good
    assert bundle.card.classes == ("dent", "rust")


def test_evaluate_measures_the_file(made, split_folder):
    """The counts of `evaluate` are those in the card."""
    result = run("evaluate", "--bundle", made, "--data", split_folder, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["test"] == load(made).card.metrics["test"]


def test_evaluate_refuses_other_classes(made, class_folder, tmp_path):
    """A folder with other classes than the bundle's is refused by name."""
    for name in ("dent", "rust"):
        (tmp_path / name).mkdir()
        for n in range(6):
            (tmp_path / name / f"{n}.png").write_bytes((class_folder / "patches" / "patches_1.png").read_bytes())
    result = run("evaluate", "--bundle", made, "--data", tmp_path)
    assert result.exit_code == 1
    assert "dent, rust; the bundle knows inclusion, patches, scratches" in result.output


@pytest.mark.parametrize("command", ["student", "evaluate"])
def test_commands_say_what_is_wrong_with_the_data(command, made, tmp_path):
    """An empty folder, a missing class and an unreadable picture end with one line and exit 1."""
    where = ("--out", tmp_path / "out") if command == "student" else ("--bundle", made)
    data = tmp_path / "data"
    data.mkdir()
    result = run(command, "--data", data, *where)
    assert (result.exit_code, "0 class folders" in result.output) == (1, True)
    for name in ("inclusion", "patches", "scratches"):
        (data / name).mkdir()
    result = run(command, "--data", data, *where)
    assert (result.exit_code, "inclusion: no pictures" in result.output) == (1, True)
    for name in ("inclusion", "patches", "scratches"):
        for n in range(6):
            (data / name / f"{n}.png").write_bytes(b"no picture")
    result = run(command, "--data", data, *where)
    assert (result.exit_code, "6 could not be used, the first: 0.png is no image" in result.output) == (1, True)


def test_help_lists_the_commands():
    """`defectd-train --help` shows what there is."""
    assert {"student", "evaluate", "quantize"} <= set(run("--help").output.split())
