"""Releases of defectd to install: bundles of this checkout, and of copies with another version or with a fault."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from machine import CACHE, ROOT

PYTHON = "3.11"
"""The version of the Debian release that the machines boot."""
PARTS = ("edge", "trainer", "systemd", "deploy", "docs", "setup.cfg", "pyproject.toml", "config.yaml")
PAGES = ("README.md", "LICENSE", "CHANGELOG.md")

NEVER_READY = """

def _run(self, for_s=None):
    raise RuntimeError("this release is broken")


Daemon.run = _run
"""
DIES_SOON = """

_whole = Daemon.run


def _run(self, for_s=None):
    return _whole(self, 2.0)


Daemon.run = _run
"""
REFUSES = """

def load(path, env=None):
    raise ConfigError(str(path), (Problem("node", "line3", "this release knows no node", "Go back"),))
"""


def checkout(folder: Path, version: str, appended: dict[str, str]) -> Path:
    """A copy of this checkout with another version.  appended: text for the end of a file, by its path."""
    folder.mkdir()
    for name in PARTS + PAGES:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    package = folder / "edge" / "__init__.py"
    lines = package.read_text().splitlines()
    lines = [f'__version__ = "{version}"' if line.startswith("__version__") else line for line in lines]
    package.write_text("\n".join(lines) + "\n")
    assert f'"{version}"' in package.read_text()
    for name, text in appended.items():
        path = folder / name
        path.write_text(path.read_text() + text)
    return folder


def bundle(source: Path, folder: Path) -> Path:
    """Make an offline bundle of a checkout.  It uses the wheels that an earlier one fetched."""
    wheels = CACHE / "wheels"
    environment = {**os.environ, "PIP_FIND_LINKS": f"{wheels} {os.environ.get('PIP_FIND_LINKS', '')}".strip()}
    wheels.mkdir(parents=True, exist_ok=True)
    command = [str(source / "deploy" / "install.sh"), "--bundle", str(folder), "--python-version", PYTHON]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for wheel in (folder / "wheels").glob("*.whl"):
        if not wheel.name.startswith("defectd-"):
            shutil.copy(wheel, wheels)
    return folder
