"""Calibrations: one room each, from frames to what `edge.calibration` keeps."""
