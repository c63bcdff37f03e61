"""Evaluation of a model as it ships: accuracy, robustness, calibration, open set, latency."""
