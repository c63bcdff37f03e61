"""Calibrations: one room each, from frames to what `edge.config.calibration` keeps."""
