"""Plays the scene of test_v4l2.py in a mount namespace of its own: `python v4l2_scene.py FOLDER`, as root.

It replaces /dev, so that the camera can lie where udev would put it; other processes do not see that.
"""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

BY_ID = Path("/dev/v4l/by-id/usb-Plant_Camera-video-index0")


def own_dev(folder: Path) -> None:
    """Replace /dev by a folder with only the devices that Python and the libraries need."""
    dev = folder / "dev"
    dev.mkdir()
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        (dev / name).touch()
        subprocess.run(["mount", "--bind", f"/dev/{name}", dev / name], check=True)
    (dev / "shm").mkdir()
    (dev / "fd").symlink_to("/proc/self/fd")
    (dev / "v4l/by-id").mkdir(parents=True)
    subprocess.run(["mount", "--rbind", dev, "/dev"], check=True)


def plug_in(number: int) -> None:
    Path(f"/dev/video{number}").touch()
    BY_ID.symlink_to(f"../../video{number}")


def pull_out(number: int) -> None:
    BY_ID.unlink()
    Path(f"/dev/video{number}").unlink()


def main(folder: Path) -> None:
    own_dev(folder)
    from node_scene import Scene

    from edge.camera.sources import v4l2_query

    plug_in(0)
    device = v4l2_query.ask(BY_ID)
    other = {"name": "other", "source": "strip:?width=256&height=128", "fps": 40, "ring_frames": 64}
    with Scene(folder, {"name": "a", "source": str(BY_ID)}, other) as scene:
        scene.until(scene.more("a", 20))
        actual = scene.supervisor.snapshot()["a"].actual
        pull_out(0)
        reported_s = scene.until(lambda: scene.has("a", "camera.lost"))
        reason = next(detail["reason"] for _, kind, detail in scene.reported("a") if kind == "camera.lost")
        scene.until(lambda: scene.supervisor.snapshot()["a"].restarts >= 2)
        plug_in(3)
        back_s = scene.until(lambda: scene.has("a", "camera.restored"))
        scene.until(scene.more("a", 20))
        assert scene.count("other", "dropped") == 0
    result = {
        "actual": asdict(actual),
        "device": {"card": device.card, "formats": [form.code for form in device.formats]},
        "reported_s": reported_s,
        "back_s": back_s,
        "reason": reason,
    }
    sys.stdout.write(json.dumps(result))


main(Path(sys.argv[1]))
