"""The command `defectd-train`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; without the trainer extra, name the extra instead of printing a traceback."""
    try:
        from trainer.cli.commands import main as command  # noqa: PLC0415  torch and the others may be missing
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("edge", "trainer"):
            raise
        sys.exit(
            f"defectd-train needs the package {package}. Install the trainer extra: pip install 'defectd[trainer]'"
        )
    command()
