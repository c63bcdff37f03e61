"""Help of both commands: whole lines, an example in each, a guess at what was meant, completion, manual pages."""

import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edge.cli import main
from trainer.cli.commands import main as train

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "deploy"))

import man_pages  # noqa: E402

COMMANDS = {
    " ".join(words): command
    for program, root in (("defectd", main), ("defectd-train", train))
    for words, command in man_pages.commands(root, (program,))
}
HELP = ["-h", "--help"]
GROUPS = [name for name, command in COMMANDS.items() if isinstance(command, click.Group)]


def shown(name, width=80):
    context = click.Context(
        COMMANDS[name], info_name=name, terminal_width=width, max_content_width=width, help_option_names=HELP
    )
    return COMMANDS[name].get_help(context)


@pytest.mark.parametrize("name", GROUPS)
def test_the_line_of_each_command_is_whole_at_80_columns(name):
    """Nobody has to guess how a sentence goes on."""
    listed = shown(name).split("Commands:")[1]
    assert "..." not in listed
    assert max(map(len, listed.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_each_help_has_an_example_that_exists(name):
    """A line as it is typed, with options that the command knows."""
    lines = [line.strip() for line in shown(name, 200).splitlines()]
    examples = [line for line in lines if line.startswith(("defectd ", "defectd-train "))]
    examples += [line.split(":  ")[1].strip() for line in lines if ":  defectd" in line]
    assert examples, "write an example"
    for example in examples:
        program, *words = example.split("   ")[0].split(" > ")[0].split()
        command = {"defectd": main, "defectd-train": train}[program]
        while isinstance(command, click.Group) and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        assert {word for word in words if word.startswith("-")} <= known, example


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("evnts",), "'events'"),
        (("calibrate", "floatfield"), "'flatfield'"),
        (("events", "--limt", "3"), "'--limit'"),
        (("tail", "--camera", "topp"), "'top'"),
        (("completion", "bsh"), "'bash'"),
    ],
)
def test_a_typing_error_gets_a_guess(words, meant, tmp_path, monkeypatch):
    """Commands, options, cameras; a choice lists what there is."""
    (tmp_path / "config.yaml").write_text("node: n\ncameras: [{name: top, source: 'strip:'}]\n")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, words)
    assert done.exit_code in (2, 78)
    assert meant in done.stderr


def test_an_unknown_class_gets_a_guess(tmp_path):
    """In the configuration, against the classes of the model."""
    decision = "decision: {classes: {scratchs: 0.7}}"
    (tmp_path / "c.yaml").write_text(f"node: n\ncameras: [{{name: top, source: 'strip:', {decision}}}]\n")
    done = CliRunner().invoke(main, ["check", "-c", str(tmp_path / "c.yaml")])
    assert "Did you mean 'scratches'?" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_a_shell(shell):
    """It asks the command itself what can follow."""
    script = CliRunner().invoke(main, ["completion", shell]).stdout
    assert "_DEFECTD_COMPLETE" in script
    if shell == "bash" and shutil.which("bash"):
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_manual_pages_are_complete_and_free_of_warnings(tmp_path):
    """One page a command; groff reads it without a remark."""
    assert man_pages.main(tmp_path) == len(COMMANDS)
    page = (tmp_path / "man1/defectd-calibrate-auto.1").read_text()
    assert ".SH OPTIONS" in page
    assert "\\-\\-camera" in page
    if groff := shutil.which("groff"):
        files = sorted((tmp_path / "man1").iterdir())
        done = subprocess.run(
            [groff, "-man", "-Tutf8", "-ww", "-z", *files], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
