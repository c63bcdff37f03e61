"""The command, from a folder to a bundle."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import pytest
import textures
from click.testing import CliRunner

from edge import __version__
from edge.model.bundle import load
from edge.model.classifier import Classifier
from trainer import plan
from trainer.cli.commands import main
from trainer.cli.progress_bars import shares


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


BRIEF = """
architecture: {name: brief, input_px: 100, convs: [{channels: 16, kernel: 4, stride: 4}]}
student: {epochs: 1, strip_seeds: 2}
measure: {latency_rounds: 1, strip_frames: 3, robustness: false}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "brief.yaml"
    path.write_text(BRIEF, "utf-8")
    return path


@pytest.fixture(scope="module")
def made(split_folder, recipe, tmp_path_factory):
    """A bundle, trained briefly on the small folder."""
    out = tmp_path_factory.mktemp("run")
    result = run("all", "--data", split_folder, "--out", out, "--recipe", recipe)
    assert result.exit_code == 0, result.output
    return out / "bundle"


def test_all_writes_a_bundle_that_the_daemon_accepts(made):
    """It loads, passes its self-test, and its card has the counts."""
    bundle = load(made)
    Classifier(bundle).selftest()
    assert bundle.card.has_good
    assert bundle.card.metrics["test"]["n"] == 9
    assert bundle.card.metrics["strip"]["seed 1"]["frames"] == 3
    assert sum(bundle.card.training["pictures"].values()) == 56


def test_card_has_no_path_of_this_machine(made, split_folder):
    """The card does not reveal the folders of the training."""
    text = (made / "card.json").read_text("utf-8")
    assert str(split_folder) not in text
    assert "/home/" not in text


def test_without_defect_free_examples_there_is_no_good_output(recipe, tmp_path):
    """Classes unknown to the simulator, no boxes, no `good` folder: the bundle has no `good` output."""
    textures.write(tmp_path / "data", 8, ("hole", "oil_drop"))
    result = run("all", "--data", tmp_path / "data", "--out", tmp_path / "out", "--recipe", recipe)
    assert result.exit_code == 0, result.output
    bundle = load(tmp_path / "out" / "bundle")
    assert not bundle.card.has_good
    assert bundle.card.classes == ("hole", "oil_drop")


def test_show_draws_a_contact_sheet(split_folder, tmp_path):
    """The sheet has a row for each class and two for its augmentation; nothing else is written."""
    result = run("show", "--data", split_folder, "--out", tmp_path / "page.png")
    assert result.exit_code == 0, result.output
    sheet = cv2.imread(str(tmp_path / "page.png"), cv2.IMREAD_GRAYSCALE)
    assert sheet.shape[1] == 12 * 104
    assert sheet.shape[0] > 4 * 3 * 100
    assert [p.name for p in tmp_path.iterdir()] == ["page.png"]
    assert sheet.std() > 20


def test_evaluate_measures_the_file(made, split_folder):
    """The counts of `evaluate` equal those in the card."""
    result = run("evaluate", "--bundle", made, "--data", split_folder, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["test"] == load(made).card.metrics["test"]


def test_evaluate_refuses_other_classes(made, class_folder, tmp_path):
    """The message names the classes of the folder and of the bundle."""
    for name in ("dent", "rust"):
        (tmp_path / name).mkdir()
        for n in range(6):
            (tmp_path / name / f"{n}.png").write_bytes((class_folder / "patches" / "patches_1.png").read_bytes())
    result = run("evaluate", "--bundle", made, "--data", tmp_path)
    assert result.exit_code == 1
    assert "dent, rust; the bundle knows inclusion, patches, scratches" in result.output


@pytest.mark.parametrize("command", ["all", "distill", "show", "evaluate"])
def test_commands_report_errors_of_the_data(command, made, tmp_path):
    """An empty folder, a missing class and an unreadable picture give one line and exit code 1."""
    where = ("--bundle", made) if command == "evaluate" else ("--out", tmp_path / "out")
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
    assert (result.exit_code, "6 could not be used, the first: 0.png is not an image" in result.output) == (1, True)


def test_help_lists_the_commands():
    """`defectd-train --help` lists every command, and so does -h."""
    wanted = {"all", "teacher", "distill", "prune", "finetune", "export", "quantize", "evaluate", "show"}
    assert wanted <= set(run("--help").output.split())
    assert run("-h").output == run("--help").output


def test_contradictory_options_are_refused(split_folder, recipe, tmp_path):
    """A missing run folder is a usage error; --weights without a teacher, or an unknown recipe, gives exit code 1."""
    assert run("evaluate", "--data", split_folder).exit_code == 2
    words = ("all", "--data", split_folder, "--out", tmp_path / "run", "--recipe")
    result = run(*words, recipe, "--weights", "none")
    assert (result.exit_code, "has no teacher" in result.output) == (1, True)
    result = run(*words, "nowhere.yaml")
    assert (result.exit_code, "no such recipe" in result.output) == (1, True)


def test_version_is_printed():
    """`defectd-train --version` prints the version of the package."""
    assert run("--version").output == f"defectd-train, version {__version__}\n"


@pytest.mark.parametrize("package", ["torch", "onnx", "tqdm"])
def test_without_the_extra_the_command_names_it(package):
    """Without a package of the trainer extra, the command prints one line instead of a traceback."""
    script = f"import sys; sys.modules[{package!r}] = None; from trainer.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"defectd-train needs the package {package}. Install the trainer extra: pip install 'defectd[trainer]'\n"
    )


def test_all_chooses_a_recipe_that_suits_and_says_which(tmp_path, monkeypatch):
    """Without the ImageNet weights of B0 there is no teacher; with them, or a teacher given, there is."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert plan.suited()[0] == "wide"
    assert plan.suited(teacher_given=True)[0] == "default"
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "efficientnet_b0_rwightman-7f5810bc.pth").touch()
    name, why = plan.suited()
    assert (name, "ImageNet weights" in why) == ("default", True)
    result = run("all", "--data", tmp_path / "missing", "--out", tmp_path / "out")
    assert "recipe: default, because the ImageNet weights" in result.output
    monkeypatch.setattr(plan.backbones, "on_this_machine", lambda: plan.backbones.LITE0)
    name, why = plan.suited()
    assert (name, "upper bound" in why) == ("wide", True)  # the extra for the bound does not make the training longer


def test_the_shares_of_the_pictures_are_printed():
    """What trains, what is held out and why, with its share."""
    found = shares({"train": {"a": 60, "b": 20}, "held_out": {"a": 4}, "valid": {"a": 8, "b": 8}, "test": {}})
    assert found == (
        "100 pictures: 80 train (80%), 4 are held out for the temperature (4%), "
        "16 are valid and choose the int8 network (16%)"
    )
