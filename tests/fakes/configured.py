"""A camera as a configuration file and its calibrations make it."""

from __future__ import annotations

from pathlib import Path

from edge import config
from edge.control.effective_config import with_calibrations


def calibrated_camera(path: Path) -> config.Camera:
    """The first camera of a file, with its calibrations."""
    return with_calibrations(config.load(path)).cameras[0]
