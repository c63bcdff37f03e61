"""calibrate: measure a camera, and store the results for the daemon."""

from __future__ import annotations

import click

from edge.cli.calibrate import anomaly, apply, auto, classes, flatfield, latency, roi, scale, show, thresholds


@click.group()
def calibrate() -> None:
    """Fit the daemon to a camera. Each command writes state_dir/calibration/CAMERA.yaml and a picture beside it.

    Frames come from the camera, or from recordings with --source. Values in the configuration override calibrated
    ones. `defectd reload` makes a running daemon use a new calibration.

    \b
    Examples:
      defectd calibrate auto --camera top
      defectd calibrate show --camera top
      defectd calibrate undo --camera top
    """


for _command in (
    auto.auto,
    roi.roi,
    flatfield.flatfield,
    scale.scale,
    thresholds.thresholds,
    latency.latency,
    anomaly.normal,
    classes.classes,
    apply.apply,
    apply.undo,
    show.show,
):
    calibrate.add_command(_command)
