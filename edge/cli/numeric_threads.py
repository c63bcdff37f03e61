"""Limits numeric libraries to one thread each, before they are loaded."""

from __future__ import annotations

import os


def one_thread_each() -> None:
    """Set it in the environment, which the libraries read when loaded: their pools would compete with the network."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        os.environ.setdefault(name, "1")
