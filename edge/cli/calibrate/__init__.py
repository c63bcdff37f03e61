"""calibrate: from frames of a camera to what the daemon uses of it."""

from __future__ import annotations

import click

from edge.cli.calibrate import anomaly, flatfield, latency, roi, scale, thresholds


@click.group()
def calibrate() -> None:
    """Fit the daemon to a camera: each writes state_dir/calibration/CAMERA.yaml and a picture beside it.

    Frames come from the camera, or from recordings with --source. What stands in the configuration goes before what
    was calibrated. A running daemon takes it over with `defectd reload`.
    """


for _command in (
    roi.roi,
    flatfield.flatfield,
    scale.scale,
    thresholds.thresholds,
    latency.latency,
    anomaly.normal,
):
    calibrate.add_command(_command)
