"""The scripts of deploy/: clean by shellcheck, and what they say before they do anything."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = [*sorted((ROOT / "deploy").glob("*.sh")), ROOT / ".ci" / "run"]
INSTALL = ROOT / "deploy" / "install.sh"


def install(*arguments, **environment):
    return subprocess.run(
        ["bash", str(INSTALL), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_clean_by_shellcheck(script):
    """Not a remark, at shellcheck's default severity."""
    program = shutil.which("shellcheck")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("shellcheck is not installed, and CI is set: install the package shellcheck")
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([program, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""


def test_help_names_every_option():
    """--help is the manual: each option that is read stands in it."""
    said = install("--help")
    assert said.returncode == 0
    text = INSTALL.read_text()
    words = text[text.index("read_arguments() {") :].split()
    read = {word[:-1] for word in words if word.startswith("--") and word.endswith(")")} - {"--help"}
    assert len(read) > 8
    assert [option for option in read if option not in said.stdout] == []


@pytest.mark.parametrize(
    "arguments", [("--nonsense",), ("--config",), ("--purge",), ("--arch", "aarch64"), ("--offline",)], ids=" ".join
)
def test_wrong_usage_ends_with_2_and_the_manual(arguments):
    """An unknown option, a value that is missing, an option without what it belongs to."""
    done = install(*arguments)
    assert done.returncode == 2
    assert "install.sh --bundle FOLDER" in done.stderr


def test_bundle_does_not_touch_a_folder_of_something_else(tmp_path):
    """A folder that holds other files is refused, and they stay."""
    (tmp_path / "letter.txt").write_text("dear")
    done = install("--bundle", str(tmp_path))
    assert done.returncode == 1
    assert "other files" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    ("cases", "words"),
    [
        ("*python_version*) echo 3.10.12;; *version_info*'<'*) exit 1", "found: python3=3.10.12"),
        ("*python_version*) echo 3.11.2;; *calcsize*) exit 1", "32-bit"),
        ("*python_version*) echo 3.11.2;; *ensurepip*) exit 1;; *venv*) echo python3.11-venv", "get install python3"),
    ],
    ids=["too old", "32 bit", "no venv"],
)
def test_box_whose_python_does_not_do_is_told_what_to_do(cases, words, tmp_path):
    """A Python that is too old, a 32-bit one, one without venv: named, with the command that helps."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "basename", "id", "cat", "mktemp", "ls", "rm"):
        (programs / name).symlink_to(shutil.which(name))
    (programs / "python3").write_text(f"#!/bin/sh\ncase $* in {cases};; esac\n")
    (programs / "python3").chmod(0o755)
    done = install("--bundle", str(tmp_path / "bundle"), PATH=str(programs))
    assert done.returncode == 1
    assert words in done.stderr
