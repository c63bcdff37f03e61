"""The scripts of deploy/: clean to shellcheck, with help, and careful before they change anything."""

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
def test_script_is_clean_to_shellcheck(script):
    """shellcheck reports nothing at its default severity."""
    program = shutil.which("shellcheck")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("shellcheck is not installed, and CI is set: install the package shellcheck")
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([program, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""


def test_help_names_every_option():
    """--help lists each option that the script reads."""
    shown = install("--help")
    assert shown.returncode == 0
    text = INSTALL.read_text()
    words = text[text.index("read_arguments() {") :].split()
    read = {word[:-1] for word in words if word.startswith("--") and word.endswith(")")} - {"--help"}
    assert len(read) > 8
    assert [option for option in read if option not in shown.stdout] == []


@pytest.mark.parametrize(
    "arguments", [("--nonsense",), ("--config",), ("--purge",), ("--arch", "aarch64"), ("--offline",)], ids=" ".join
)
def test_wrong_usage_exits_with_2_and_shows_the_help(arguments):
    """An unknown option, a missing value and an option without its main option are wrong usage."""
    done = install(*arguments)
    assert done.returncode == 2
    assert "install.sh --bundle FOLDER" in done.stderr


def test_bundle_refuses_a_folder_with_other_files(tmp_path):
    """The other files stay."""
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
def test_unsuitable_python_is_reported_with_a_remedy(cases, words, tmp_path):
    """The message names a Python that is too old, 32-bit or without venv, and the command that helps."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "basename", "id", "cat", "mktemp", "ls", "rm"):
        (programs / name).symlink_to(shutil.which(name))
    (programs / "python3").write_text(f"#!/bin/sh\ncase $* in {cases};; esac\n")
    (programs / "python3").chmod(0o755)
    done = install("--bundle", str(tmp_path / "bundle"), PATH=str(programs))
    assert done.returncode == 1
    assert words in done.stderr
