"""Commands of a user who may not read the state directory, or not write where the result should go."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

NOBODY = 65_534


@pytest.fixture
def plant() -> Iterator[Path]:
    """A configuration that everybody may read, and a state directory that nobody else may enter."""
    folder = Path(tempfile.mkdtemp(prefix="defectd-test-"))
    state = folder / "var"
    state.mkdir()
    for name in ("outbox.db", "console", "coverage.json"):
        (state / name).touch()
    (state / "models").mkdir()
    content = {
        "node": "line3",
        "state_dir": "var",
        "mqtt": {"broker": "mqtt://127.0.0.1:1"},
        "cameras": [{"name": "top", "source": "strip:"}],
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    cv2.imwrite(str(folder / "a.png"), np.full((220, 220), 90, np.uint8))
    folder.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(state, NOBODY, NOBODY)
    state.chmod(0o700 if os.geteuid() == 0 else 0o000)
    yield folder
    state.chmod(0o700)
    shutil.rmtree(folder)


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command; root runs it without the capabilities that pass over the rights of files."""
    command = [sys.executable, "-m", "edge.cli", *arguments]
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv") or pytest.skip("setpriv is not installed")
        command = [setpriv, "--bounding-set=-dac_override,-dac_read_search", *command]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "HOME": str(folder)}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=120, env=environment
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("events",),
        ("dead-letters", "list"),
        ("dead-letters", "retry", "--all"),
        ("evidence", "list"),
        ("model", "list"),
        ("model", "rollback"),
        ("coil", "show"),
        ("check",),
        ("run", "--for", "1s"),
        ("calibrate", "flatfield", "--source", "a.png"),
    ],
    ids=" ".join,
)
def test_command_without_rights_names_the_place_and_sudo(plant: Path, arguments: tuple[str, ...]) -> None:
    """No traceback, and no advice to move the state directory."""
    done = call(plant, *arguments)
    assert "Traceback" not in done.stderr
    assert done.returncode not in (0, 2)
    assert str(plant / "var") in done.stderr
    assert "sudo" in done.stderr
    assert "another state_dir" not in done.stderr


def test_doctor_without_rights_examines_the_rest(plant: Path) -> None:
    """What it may not see is a finding."""
    done = call(plant, "doctor", "--no-cameras")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "evidence" in done.stdout
    assert "opencv" in done.stdout


def test_pictures_where_nobody_may_write_are_one_message(plant: Path) -> None:
    """The folder is named."""
    done = call(plant, "inspect", "a.png", "--pictures", str(plant / "var" / "out"))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert f"{plant / 'var' / 'out'}" in done.stderr
    assert "sudo" in done.stderr


@pytest.mark.parametrize("path", ["~no-such-user/a", "n" * 300, "a/" * 3000, "a\0b"])
def test_path_that_cannot_exist_is_one_message(plant: Path, path: str) -> None:
    """A name that is too long, or of the home of nobody, is a source that is not there."""
    config = yaml.safe_load((plant / "config.yaml").read_text())
    config["cameras"][0]["source"] = path
    (plant / "config.yaml").write_text(yaml.safe_dump(config))
    done = call(plant, "doctor")
    assert "Traceback" not in done.stderr
    assert done.returncode in (1, 78)
    if "\0" not in path:  # the kernel takes none in an argument
        done = call(plant, "inspect", path)
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
