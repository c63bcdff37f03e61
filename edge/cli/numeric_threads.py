"""Numeric libraries kept to one thread each, before they are loaded."""

from __future__ import annotations

import os


def one_thread_each() -> None:
    """Pools of the numeric libraries would only fight with the network for the cores; read when they are loaded."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        os.environ.setdefault(name, "1")
