"""The foreign files of the page are those of their packages, each with version, licence and hash."""

import hashlib
import json
from pathlib import Path

import pytest

VENDOR = Path(__file__).parents[2] / "edge" / "web" / "static" / "vendor"
ROWS = json.loads((VENDOR / "VERSIONS.json").read_text("utf-8"))["files"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"])
def test_file_is_that_of_its_package(row):
    """The hash is the stated one; with the stated replacement taken back it is that of the package."""
    text = (VENDOR / row["file"]).read_bytes()
    assert hashlib.sha256(text).hexdigest() == row["sha256"]
    for old, new in row.get("replaced", {}).items():
        assert text.count(new.encode()) == 1
        text = text.replace(new.encode(), old.encode())
    assert hashlib.sha256(text).hexdigest() == row["package_sha256"]


def test_nothing_else_lies_there():
    """Each file is listed, and the text of each licence lies beside it."""
    listed = {row["file"] for row in ROWS} | {row["licence_text"] for row in ROWS} | {"VERSIONS.json"}
    assert {path.name for path in VENDOR.iterdir()} == listed
