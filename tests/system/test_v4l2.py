"""A camera with a V4L2 driver, opened by the real OpenCV: pulled out, and plugged in again under another number."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

HERE = Path(__file__).parent
SCENE = HERE / "v4l2_scene.py"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake driver, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not Path("/usr/include/linux/videodev2.h").exists():
        if os.environ.get("CI"):
            pytest.fail("a C compiler is missing, and CI is set: install the packages gcc and libc6-dev")
        pytest.skip("a C compiler with the kernel's headers is missing")
    library = tmp_path_factory.mktemp("v4l2") / "v4l2_camera.so"
    command = [compiler, "-shared", "-fPIC", "-o", library, HERE / "v4l2_camera.c", "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def test_camera_that_returns_under_another_number_is_found_by_its_name(driver: Path, tmp_path: Path) -> None:
    """Unplugged, it is lost within 3 s; plugged in as video3, it is back within 5 s under its stable name."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("a /dev of our own needs root and unshare")
    environment = {
        **os.environ,
        "LD_PRELOAD": str(driver),
        "LD_V4L2_CAMERA": "/dev/video",
        "PYTHONPATH": os.pathsep.join(map(str, (HERE.parents[1], HERE.parent, HERE))),
    }
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, SCENE, tmp_path],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    sys.stdout.write(f"reported after {result['reported_s']:.2f} s, back after {result['back_s']:.2f} s\n")
    assert result["actual"]["backend"] == "V4L2"
    assert (result["actual"]["width"], result["actual"]["height"], result["actual"]["fps"]) == (320, 240, 25.0)
    assert result["device"] == {"card": "Plant Camera", "formats": ["YUYV"]}
    assert result["reported_s"] < 3
    assert result["back_s"] < 5
    assert "/dev/v4l/by-id/usb-Plant_Camera-video-index0" in result["reason"]
