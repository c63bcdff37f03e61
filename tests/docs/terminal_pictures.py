"""Makes the pictures of terminal screens in docs/terminal, on dark and on light: `make pictures-terminal`.

Run by hand; takes about three minutes, and needs tmux and the RTSP server of GStreamer. Each screen is what the
commands really print in a terminal of tmux.
"""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.terminal_theme import TerminalTheme

ROOT: Final = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "system"), str(ROOT / "tests" / "bench")]

from first_hour import CAMERA_LOGIN, FPS, SIZE, Mill  # noqa: E402
from rtsp_camera import RtspServer  # noqa: E402

OUT: Final = ROOT / "docs" / "terminal"
COLUMNS, ROWS = 104, 26
WAIT_S: Final = 90.0
CLEAN: Final = "strip:?border_px=60&defects=0"
CONFIG: Final = """node: line3
cameras:
  - {{name: top, source: "{source}", fps: 20, budget_ms: 500}}
metrics: {{listen: null}}
web: {{listen: "127.0.0.1:{web}"}}
mqtt: {{broker: "embedded:{broker}"}}
"""

NORMAL: Final = [(0, 0, 0), (190, 45, 40), (30, 120, 60), (140, 95, 0), (50, 100, 190), (150, 70, 160), (30, 130, 140)]
BRIGHT: Final = [
    (0, 0, 0),
    (248, 113, 104),
    (110, 205, 140),
    (240, 190, 80),
    (120, 170, 250),
    (205, 140, 220),
    (100, 200, 210),
]
THEMES: Final = {
    "dark": TerminalTheme(
        (22, 27, 32),
        (222, 228, 232),
        [(60, 66, 72), *BRIGHT[1:], (222, 228, 232)],
        [(120, 128, 136), *BRIGHT[1:], (255, 255, 255)],
    ),
    "light": TerminalTheme(
        (250, 251, 252), (12, 16, 20), [*NORMAL, (110, 118, 126)], [(110, 118, 126), *NORMAL[1:], (12, 16, 20)]
    ),
}


class Terminal:
    """One window of tmux, in a folder of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._socket, self._name = str(folder / "tmux"), name
        shell = f"cd {shlex.quote(str(folder))} && env PS1='$ ' PATH={folder / 'bin'}:$PATH LANG=C.UTF-8 bash --norc"
        size = ("-x", str(COLUMNS), "-y", str(ROWS))
        self.tmux("-f", "/dev/null", "new-session", "-d", *size, "-s", name, shell)
        self.wait(r"^\$")

    def tmux(self, *words: str) -> str:
        command = ["tmux", "-S", self._socket, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def type(self, words: str) -> None:
        self.tmux("send-keys", "-t", self._name, "-l", words)
        self.tmux("send-keys", "-t", self._name, "Enter")

    def key(self, name: str) -> None:
        self.tmux("send-keys", "-t", self._name, name)

    def wait(self, pattern: str, limit_s: float = WAIT_S) -> None:
        """Until the screen shows it."""
        deadline = time.monotonic() + limit_s
        while not re.search(pattern, shown := self.tmux("capture-pane", "-p", "-t", self._name), re.MULTILINE):
            if time.monotonic() > deadline:
                raise SystemExit(f"{self._name}: no {pattern!r} in\n{shown}")
            time.sleep(0.3)

    def save(self, name: str, title: str) -> None:
        """Write the screen as docs/terminal/NAME-dark.svg and -light.svg."""
        shown = self.tmux("capture-pane", "-eJp", "-t", self._name).rstrip("\n")
        shown = re.sub(r"token=[\w-]+", "token=...", re.sub(r"(defectd-auto)-\w+", r"\1", shown))
        shown = shown.replace(str(self._folder), "/home/you")
        for theme, colours in THEMES.items():
            console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
            for line in AnsiDecoder().decode(shown):  # a style that tmux does not repeat goes on in the next line
                line.rstrip()
                console.print(line)
            console.print()  # room for the last line's descenders
            svg = console.export_svg(title=title, theme=colours, unique_id=f"{name}-{theme}")
            svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code", "DejaVu Sans Mono")
            svg = svg.replace("rgba(255,255,255,0.35)", "rgba(128,128,128,0.5)")  # the frame, seen on any page
            (OUT / f"{name}-{theme}.svg").write_text(re.sub(r"[ \t]+\n", "\n", svg), "utf-8")
        print(f"{OUT / name}-*.svg")  # noqa: T201


def site(folder: Path, source: str, port: int) -> None:
    """A folder with a configuration, and the command `defectd` of this checkout."""
    (folder / "config.yaml").write_text(CONFIG.format(source=source, web=port, broker=port + 1))
    command = folder / "bin" / "defectd"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m edge.cli "$@"\n')
    command.chmod(0o755)


def main() -> None:
    OUT.mkdir(exist_ok=True)
    wanted = sys.argv[1:] or ["run", "init", "calibrate"]
    with tempfile.TemporaryDirectory() as place:
        for name in wanted:
            folder = Path(place) / name
            folder.mkdir()
            try:
                {"run": run_and_status, "init": init, "calibrate": calibrate}[name](folder)
            finally:
                end(folder)


def end(folder: Path) -> None:
    """Stop what runs in the terminals by Ctrl-C, so that its last lines are there when something went wrong."""
    tmux = ["tmux", "-S", str(folder / "tmux")]
    for _ in range(50):
        panes = [*tmux, "list-panes", "-a", "-F", "#{pane_id} #{pane_current_command}"]
        listed = subprocess.run(panes, capture_output=True, text=True, check=False).stdout.split()
        busy = [pane for pane, command in zip(listed[::2], listed[1::2], strict=True) if command != "bash"]
        if not busy:
            break
        for pane in busy:
            subprocess.run([*tmux, "send-keys", "-t", pane, "C-c"], check=False)
        time.sleep(1)
    subprocess.run([*tmux, "kill-server"], check=False)


def run_and_status(folder: Path) -> None:
    site(folder, "strip:?mm_per_px=0.25", 18_940)
    daemon, other = Terminal(folder, "run"), Terminal(folder, "status")
    daemon.type("defectd run")
    daemon.wait(r"(mm long[^$]*){5}")
    daemon.save("run", "defectd run")
    other.type("defectd status")
    other.wait(r"inspected.*\n.*top")
    other.save("status", "defectd status")
    daemon.key("C-c")
    daemon.wait(r"every event is delivered")


def init(folder: Path) -> None:
    site(folder, "strip:", 18_942)
    (folder / "config.yaml").unlink()
    mill = Mill(folder / "frames")
    mill.start()
    settings = (str(FPS), *map(str, SIZE), "digest", str(FPS), str(folder / "frames"))
    camera = RtspServer(18_943, *settings, users=dict([CAMERA_LOGIN]))
    camera.start()
    terminal = Terminal(folder, "init")
    terminal.type("defectd init")
    answers = (
        ("Name of this node", "line3"),
        ("Cameras, separated", camera.url),
        ("Name of the camera", ""),
        ("Its user", CAMERA_LOGIN[0]),
        ("Its password", CAMERA_LOGIN[1]),
        ("Broker", "embedded"),
    )
    try:
        for question, answer in answers:
            terminal.wait(question)
            terminal.type(answer)
        terminal.wait("Then, ")
        terminal.save("init", "defectd init")
    finally:
        camera.kill()


def calibrate(folder: Path) -> None:
    site(folder, CLEAN, 18_944)
    daemon, terminal = Terminal(folder, "daemon"), Terminal(folder, "calibrate")
    daemon.type("defectd run --plain")
    daemon.wait("camera top runs")
    terminal.type("defectd calibrate auto --camera top --minutes 1 --false-alarms-per-hour 100 --length-mm 1250")
    terminal.wait(r"Write this calibration\?", 4 * WAIT_S)
    terminal.type("y")
    terminal.wait("take all of it back")
    terminal.save("calibrate-auto", "defectd calibrate auto")
    daemon.key("C-c")
    daemon.wait(r"every event is delivered")


if __name__ == "__main__":
    main()
