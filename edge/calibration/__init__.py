"""The calibrations, one per module: from frames or tiles to the parts of `edge.config.calibration`."""
