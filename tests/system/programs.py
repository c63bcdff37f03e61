"""Programs of the operating system that tests need."""

from __future__ import annotations

import os
import shutil

import pytest

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


def needs_program(name: str, package: str) -> str:
    """Path of the program, or a skip with the reason; in CI its absence is a failure."""
    found = shutil.which(name, path=PATH)
    if found is not None:
        return found
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not installed, and CI is set: install the package {package}")
    pytest.skip(f"{name} is not installed (package {package})")
