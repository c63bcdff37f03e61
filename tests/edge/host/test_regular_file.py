"""Files that must be regular ones, and what may lie in their place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.host import regular_file

READERS = {
    "coil.json": "CoilStore(path, SystemClock())",
    "coverage.json": "CoverageTotals(path, SystemClock())",
    "models/standing.json": "Store(path.parents[1]).active('builtin')",
    "calibration/top.yaml": "calibration.load(path)",
    "calibration/node.yaml": "tuning.load(path)",
    "thresholds.json": "overrides.load(CONFIG, {})",
    "sparkplug.json": "Memory.read(path, 1, 1)",
    "flatfield.png": "Flatfield.read(path)",
    "anomaly.npz": "AnomalyModel.read(path)",
    "classes.npz": "TaughtClasses.read(path)",
    "bundle/card.json": "bundle.load(path.parent)",
}
"""Each file of a state directory or of the configuration, and its reader."""
IMPORTS = """
import sys
from pathlib import Path
from edge import config
from edge.config import calibration, overrides, tuning
from edge.coverage.coil_store import CoilStore
from edge.coverage.totals import CoverageTotals
from edge.delivery.sparkplug.output import Memory
from edge.errors import DefectdError
from edge.host.clock import SystemClock
from edge.model import bundle
from edge.model.store import Store
from edge.vision.anomaly import AnomalyModel
from edge.vision.flatfield import Flatfield
from edge.vision.taught_classes import TaughtClasses
STATE = Path(sys.argv[1])
RAW = {"node": "line3", "state_dir": str(STATE), "cameras": [{"name": "top", "source": "strip:"}]}
CONFIG = config.parse(RAW, origin="test", base=STATE, env={})
"""


def test_pipe_in_place_of_a_file_does_not_hold_up_its_reader(tmp_path: Path) -> None:
    """Each reader answers at once: with its default, or with an error raised on purpose."""
    code = IMPORTS
    for name, call in READERS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        os.mkfifo(tmp_path / name)
        code += f"path = STATE / {name!r}\nprint(path, flush=True)\ntry:\n    {call}\nexcept DefectdError:\n    pass\n"
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == len(READERS)


def test_folder_device_and_impossible_name_are_errors(tmp_path: Path) -> None:
    """Every reader expects OSError, and nothing else."""
    for path in (tmp_path, Path("/dev/zero"), tmp_path / "none", Path("a\0b"), tmp_path / ("n" * 300)):
        with pytest.raises(OSError, match=r".+"):
            regular_file.read(path, 10)


def test_content_is_bounded(tmp_path: Path) -> None:
    """A file may be larger than what its reader wants."""
    (tmp_path / "a").write_bytes(b"0123456789")
    assert regular_file.read(tmp_path / "a", 4) == b"0123"
