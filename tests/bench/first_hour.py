"""The first hour of a new user, in commands, keystrokes and seconds: `python tests/bench/first_hour.py`.

Clones the repository, follows its README alone, and stops the time at four milestones: the first event, a network
camera with a password inspected, that camera calibrated, a class of one's own taught. The camera is an RTSP server of
GStreamer that shows the generated strip with a dark border; the broker is a Mosquitto with a password.

Seconds are those of the machine: what is typed arrives at once, and a person needs longer. Keystrokes are the
characters of every line, with its Enter, without completion. Labels are given by renaming a folder of exported tiles.
`--before` walks the last commit before version 0.2.0 as its README said. Run by hand, on a quiet machine; takes about
five minutes, and the ports 1883, 8480 and 9464.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

ROOT: Final = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "system")]

from fakes.ports import free_port  # noqa: E402
from mosquitto import Mosquitto  # noqa: E402
from rtsp_camera import RtspServer  # noqa: E402

from edge.camera.sources.simulator import Strip  # noqa: E402

BEFORE: Final = "8c5a3c8"
"""The last commit before version 0.2.0."""
FPS: Final = 20
SIZE: Final = (800, 400)
CAMERA_LOGIN: Final = ("viewer", "s3cret/#1")
BROKER_LOGIN: Final = ("line3", "br0ker pw#")
GOOD_MINUTES: Final = 2
"""Of good surface, in both walks; the default is 10."""
SINCE: Final = "1m"
TAUGHT: Final = 8
"""Defects of the new class that are labelled."""
LIMIT_S: Final = 900.0
DEFECT: Final = r"top +\S+ +(minor|major|critical) "
PROMPT: Final = "ready> "
CONTROL_KEYS: Final = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Shell:
    """A shell in a terminal, at which somebody types.  keys, commands: how much so far, of all shells."""

    keys = 0
    commands = 0

    def __init__(self, folder: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(folder)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell in the background would pass on that it is ignored
            os.execvpe("bash", ["bash", "--norc", "--noprofile"], {**kept, "PS1": PROMPT, "TERM": "xterm"})
        subprocess.run(["stty", "-F", os.ttyname(self._terminal), "cols", "120", "rows", "40"], check=False)
        self._seen = b""
        self.wait(PROMPT)

    def run(self, line: str) -> None:
        """Type a command."""
        Shell.commands += 1
        self.answer(line)

    def answer(self, line: str) -> None:
        """Type a line; what was shown before does not count in the next wait."""
        self.press(f"{line}\n")

    def press(self, keys: str) -> None:
        """Press these keys."""
        Shell.keys += len(keys)
        self._seen = b""
        os.write(self._terminal, keys.encode())

    def wait(self, pattern: str, limit_s: float = LIMIT_S) -> str:
        """Until the terminal has shown it.  Returns what was shown since the last keys."""
        until_s = time.monotonic() + limit_s
        while not re.search(pattern, shown := CONTROL_KEYS.sub(b"", self._seen).decode("utf-8", "replace")):
            left_s = until_s - time.monotonic()
            if left_s <= 0 or not self._read(left_s):
                raise SystemExit(f"no {pattern!r} in\n{shown[-3000:]}")
        return shown

    def type_file(self, name: str, text: str) -> None:
        """As in an editor, without its own keys."""
        self.run(f"cat > {name}")
        while os.tcgetpgrp(self._terminal) == self._pid:  # the shell still reads: Ctrl-D would be a key of its own
            time.sleep(0.01)
        self.press(text)
        self.press("\x04")
        self.wait(re.escape(PROMPT))

    def close(self) -> None:
        """Ctrl-C for what runs, then the end of the shell."""
        with contextlib.suppress(OSError):
            os.write(self._terminal, b"\x03")
            self.wait(re.escape(PROMPT), 30.0)
            os.write(self._terminal, b"\nexit\n")
        os.kill(self._pid, signal.SIGHUP)
        os.waitpid(self._pid, 0)
        os.close(self._terminal)

    def _read(self, limit_s: float) -> bool:
        if not select.select([self._terminal], [], [], limit_s)[0]:
            return False
        try:
            data = os.read(self._terminal, 1 << 16)
        except OSError:
            return False
        self._seen = (self._seen + data)[-(1 << 18) :]
        return True


class Mill(threading.Thread):
    """The rolling mill: writes frames for the camera.  shows: defects of all kinds, `good` surface, or `scratches`."""

    def __init__(self, fifo: Path) -> None:
        super().__init__(daemon=True)
        os.mkfifo(fifo)
        self._fifo = fifo
        self.shows = "all"

    def run(self) -> None:
        kinds = {"all": {}, "good": {"defects": 0}, "scratches": {"classes": ("scratches",), "spacing_px": 500}}
        strips = {name: Strip(width=SIZE[0], height=SIZE[1], border_px=60, **kind) for name, kind in kinds.items()}
        number = 0
        while True:
            with self._fifo.open("wb", buffering=0) as camera, contextlib.suppress(BrokenPipeError):
                start_s, start = time.monotonic(), number
                while True:
                    camera.write(strips[self.shows].frame(number).tobytes())
                    number += 1
                    time.sleep(max(0.0, start_s + (number - start) / FPS - time.monotonic()))


@dataclass(frozen=True, slots=True)
class Milestone:
    """What was reached, and what it took since the one before."""

    name: str
    commands: int
    keystrokes: int
    seconds: float


class Hour:
    """The milestones, in their order."""

    def __init__(self) -> None:
        self.milestones: list[Milestone] = []
        self._last = (0, 0, time.monotonic())

    def reached(self, name: str) -> None:
        commands, keys, at_s = self._last
        now = (Shell.commands, Shell.keys, time.monotonic())
        self.milestones.append(Milestone(name, now[0] - commands, now[1] - keys, round(now[2] - at_s, 1)))
        self._last = now
        print(self.milestones[-1], flush=True)  # noqa: T201


@dataclass(frozen=True, slots=True)
class Site:
    """clone: of the repository.  camera, broker: their addresses.  mill: in front of the camera."""

    clone: Path
    camera: str
    broker: str
    mill: Mill


@contextlib.contextmanager
def site(commit: str) -> Iterator[Site]:
    """A fresh clone, a camera and a broker; all of it is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="first-hour-") as place, contextlib.ExitStack() as opened:
        folder = Path(place)
        subprocess.run(["git", "clone", "--quiet", ROOT, folder / "defectd"], check=True)
        subprocess.run(["git", "-C", folder / "defectd", "checkout", "--quiet", commit], check=True)
        passwords = folder / "broker" / "passwords"
        passwords.parent.mkdir()
        subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, *BROKER_LOGIN], check=True)
        broker = Mosquitto(passwords.parent, f"password_file {passwords}", anonymous=False).start()
        opened.callback(broker.stop)
        mill = Mill(folder / "frames")
        mill.start()
        settings = (str(FPS), *map(str, SIZE), "digest", str(FPS), str(folder / "frames"))
        camera = RtspServer(free_port(), *settings, users=dict([CAMERA_LOGIN]))
        camera.start()
        opened.callback(camera.kill)
        yield Site(folder / "defectd", camera.url, broker.url, mill)


def now(site: Site, hour: Hour, one: Shell, other: Shell) -> None:
    """The README of today."""
    one.run("make run")
    one.wait(DEFECT)
    hour.reached("first event")

    one.press("\x03")
    one.wait(re.escape(PROMPT))
    one.run(". .venv/bin/activate")
    one.run("defectd init")
    answers = (
        ("Name of this node", "line3"),
        ("Cameras, separated", site.camera),
        ("Name of the camera", ""),
        ("Its user", CAMERA_LOGIN[0]),
        ("Its password", CAMERA_LOGIN[1]),
        ("Broker", site.broker),
        ("User at the broker", BROKER_LOGIN[0]),
        ("Password at the broker", BROKER_LOGIN[1]),
    )
    for question, answer in answers:
        one.wait(question)
        one.answer(answer)
    one.wait("Next: cd line3 && defectd run")
    one.run("cd line3 && defectd run")
    one.wait(DEFECT)
    hour.reached("RTSP camera inspected")

    site.mill.shows = "good"
    other.run(". .venv/bin/activate && cd line3")
    other.run(f"defectd calibrate auto --camera top --minutes {GOOD_MINUTES}")
    other.wait("Write this calibration")
    other.answer("y")
    other.wait("the daemon uses it")
    hour.reached("calibrated")

    site.mill.shows = "scratches"
    one.wait(rf"(({DEFECT})[^$]*?){{{TAUGHT}}}")
    other.run(f"defectd evidence export --since {SINCE} --kind defect --out tiles")
    other.wait(r"\d+ tiles, ")
    other.run("mkdir roll && mv tiles/*/* roll && rm -r tiles && mkdir tiles && mv roll tiles/roll-scratch")
    other.run("defectd calibrate classes --camera top --labelled tiles")
    other.wait("written: ")
    other.wait(re.escape(PROMPT))
    other.run("defectd reload")
    one.wait(r"top +roll-scratch ")
    hour.reached("own class taught, and in an event")


OLD_CONFIG: Final = """node: line3
state_dir: ./var-line3
mqtt:
  broker: {broker}
  username: {user}
  password_file: mqtt-password
cameras:
  - name: top
    source: rtsp://viewer:${{file:camera-password}}@{host}
    mode: strip
    tile_px: 200
"""


def before(site: Site, hour: Hour, one: Shell, other: Shell) -> None:
    """The README of then: a file by hand, one command for each calibration with the daemon stopped, a new start."""
    one.run("make run")
    one.wait("camera top")
    other.run(".venv/bin/defectd tail")
    other.wait("defect.opened")
    hour.reached("first event")

    for shell in (one, other):
        shell.press("\x03")
        shell.wait(re.escape(PROMPT))
    host = site.camera.removeprefix("rtsp://")
    one.type_file("my.yaml", OLD_CONFIG.format(broker=site.broker, user=BROKER_LOGIN[0], host=host))
    coded = quote(CAMERA_LOGIN[1], safe="")  # then, a secret in a file was a part of the URL as it stood
    for name, password in (("mqtt-password", BROKER_LOGIN[1]), ("camera-password", coded)):
        one.type_file(name, f"{password}\n")
    one.run("chmod 600 mqtt-password camera-password")
    one.run(".venv/bin/defectd check -c my.yaml --probe")
    one.wait("my.yaml: OK")
    one.run(".venv/bin/defectd run -c my.yaml")
    one.wait("camera top")
    other.run(".venv/bin/defectd tail -c my.yaml")
    other.wait("defect.opened")
    hour.reached("RTSP camera inspected")

    site.mill.shows = "good"
    one.press("\x03")
    one.wait(re.escape(PROMPT))
    frames = GOOD_MINUTES * 60 * FPS
    for words in ("roi", "flatfield", f"normal --false-alarms-per-hour 1 --frames {frames}"):
        one.run(f".venv/bin/defectd calibrate {words} -c my.yaml --camera top")
        one.wait("written: ")
        one.wait(re.escape(PROMPT))
    one.run(".venv/bin/defectd run -c my.yaml")
    one.wait("camera top runs")
    hour.reached("calibrated")


def table(milestones: list[Milestone]) -> str:
    rows = [("milestone", "commands", "keystrokes", "seconds")]
    rows += [(m.name, str(m.commands), str(m.keystrokes), f"{m.seconds:.1f}") for m in milestones]
    total = Milestone(
        "all",
        sum(m.commands for m in milestones),
        sum(m.keystrokes for m in milestones),
        sum(m.seconds for m in milestones),
    )
    rows.append((total.name, str(total.commands), str(total.keystrokes), f"{total.seconds:.1f}"))
    return "\n".join(f"{name:36} {commands:>9} {keys:>11} {seconds:>9}" for name, commands, keys, seconds in rows)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--before", action="store_true", help="walk the version before 0.2.0")
    options.add_argument("--json", type=Path, help="also write the milestones here")
    chosen = options.parse_args()
    if shutil.which("mosquitto_passwd") is None:
        raise SystemExit("mosquitto_passwd is missing: install the package mosquitto")
    hour = Hour()
    with site(BEFORE if chosen.before else "HEAD") as place:
        one, other = Shell(place.clone), Shell(place.clone)
        try:
            (before if chosen.before else now)(place, hour, one, other)
        finally:
            other.close()
            one.close()
    print(table(hour.milestones))  # noqa: T201
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(each) for each in hour.milestones], indent=1))


if __name__ == "__main__":
    main()
