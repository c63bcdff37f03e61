"""Trains the model that the daemon runs: class folders of pictures in, a bundle out."""

import edge  # noqa: F401  # turns the telemetry of onnxruntime off, before a module here imports onnxruntime
