"""The report of a coil against the truth of the generated strip, and what making reports costs inspection.

    PYTHONPATH=.:tests python tests/bench/coil_report.py truth [SECONDS]
    PYTHONPATH=.:tests python tests/bench/coil_report.py cost [ROUNDS]
    PYTHONPATH=.:tests python tests/bench/coil_report.py size [DEFECTS]

`truth` runs a daemon on a strip whose defects are known, and compares the rows of the report with them. `cost` measures
grab to verdict with and without reports being made one after the other, interleaved. `size` makes all files of a coil
with so many defects, each in a process of its own.
"""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import yaml
from fakes import coil_records
from fakes.ports import free_port
from fakes.waiting import until

from edge.camera.sources.simulator import Strip
from edge.control.unix_socket import ask
from edge.coverage import coil_judgement
from edge.coverage.coil_judgement import CoilJudgement

FPS, SPEED_PX, MM_PER_PX, SPACING_PX = 15, 60, 0.25, 1100
SPEED: Final = FPS * SPEED_PX * MM_PER_PX / 1000
SOURCE: Final = f"strip:?width=800&height=400&speed_px={SPEED_PX}&spacing_px={SPACING_PX}&seed=5"
NEAR_M: Final = 0.06
LINE: Final = re.compile(r"top: running, [\d.]+ fps, ms p50 ([\d.]+) p95 [\d.]+ p99 ([\d.]+) .*? max [\d.]+, ([^;]*);")


def configured(folder: Path, camera: dict[str, Any], **more: Any) -> Path:
    settings = {
        "node": "bench",
        "state_dir": str(folder / "var"),
        "log": {"format": "plain"},
        "mqtt": {"broker": f"embedded:{free_port()}"},
        "metrics": {"listen": None},
        "web": {"listen": None},
        "cameras": [{"name": "top", "surface": "top", "operator_side": "left", "across_at_mm": 0, **camera}],
        **more,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def command(config: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "edge.cli", *arguments, "-c", str(config)]


# ---- truth ---------------------------------------------------------------------------------------------


def truth(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        camera = {"source": SOURCE, "fps": FPS, "budget_ms": 2000, "direction": "up"}
        config = configured(
            folder, {**camera, "scale": {"mm_per_px": MM_PER_PX}}, travel={"speed_m_per_s": SPEED}, report_s=1.0
        )
        state = folder / "var"
        with (folder / "log").open("wb") as log:
            daemon = subprocess.Popen(command(config, "run"), stdout=log, stderr=log)
        try:
            until(lambda: ask(state, "coil", action="start", coil="T1"), 60)
            time.sleep(seconds)
            until(lambda: ask(state, "coil", action="stop"), 30)
            until(lambda: list((state / "coils" / "reports").glob("*.summary.json")), 90)
        finally:
            daemon.terminate()
            daemon.wait(30)
        out = folder / "coil.csv", folder / "coil.json"
        subprocess.run(command(config, "coil", "report", "T1", "-o", str(out[0]), "-o", str(out[1])), check=True)
        rows = list(csv.DictReader(out[0].read_text().splitlines()))
        report = json.loads(out[1].read_text())
        _compare(rows, report, Strip.from_url(SOURCE))


def _compare(rows: list[dict[str, str]], report: dict[str, Any], strip: Strip) -> None:
    placed = [row for row in rows if row["from_m"]]
    reach_px = report["length_m"] * 1000 / MM_PER_PX + 40_000
    known = []
    for n in range(0, int(reach_px / SPEED_PX), 3):
        known += [defect for defect, _ in strip.truth(n)]
    unique = {defect.track: defect for defect in known}
    places = {track: defect.box[1] * MM_PER_PX / 1000 for track, defect in unique.items()}

    def nearest(m: float) -> int:
        return min(places, key=lambda track: abs(places[track] - m))

    first = [float(row["from_m"]) for row in placed]
    best = max(
        (place - m for m in first[:5] for place in places.values()),
        key=lambda off: sum(abs(places[nearest(m + off)] - m - off) < NEAR_M for m in first),
    )
    pairs = [(row, unique[nearest(float(row["from_m"]) + best)]) for row in placed]
    off = statistics.median(places[defect.track] - float(row["from_m"]) for row, defect in pairs)
    pairs = [(r, d) for r, d in pairs if abs(places[d.track] - float(r["from_m"]) - off) < NEAR_M]
    low, high = (float(placed[n]["from_m"]) + off for n in (0, -1))
    inside = [track for track, m in places.items() if low - 0.01 <= m <= high + 0.01]
    along = [abs(places[d.track] - float(r["from_m"]) - off) * 1000 for r, d in pairs]
    across = [abs(float(r["across_from_mm"]) - d.box[0] * MM_PER_PX) for r, d in pairs if r["across_from_mm"]]
    length = [abs(float(r["length_mm"]) - d.box[3] * MM_PER_PX) for r, d in pairs if r["length_mm"]]
    found = {d.track for _, d in pairs}
    right = sum(r["class"] == d.class_name for r, d in pairs)
    sys.stdout.write(
        f"{len(inside)} defects on {report['length_m']:.1f} m: found {len(found & set(inside))}, rows {len(rows)}, "
        f"rows without a defect {len(placed) - len(pairs)}, class right {right} of {len(pairs)}\n"
    )
    for words, values in (("along", along), ("across", across), ("length", length)):
        ordered = sorted(values)
        sys.stdout.write(
            f"  {words}: n {len(ordered)}, median {statistics.median(ordered):.1f} mm, "
            f"95 % {ordered[int(0.95 * (len(ordered) - 1))]:.1f} mm, most {ordered[-1]:.1f} mm\n"
        )
    cover = report["coverage"][0]
    sys.stdout.write(f"  coverage: {cover}, complete {report['is_complete']}\n")


# ---- cost ----------------------------------------------------------------------------------------------


def cost(rounds: int) -> None:
    found: dict[bool, list[tuple[float, float, int, int]]] = {False: [], True: []}
    made = 0
    for number in range(rounds):
        for reports in (bool(number % 2), not number % 2):
            with tempfile.TemporaryDirectory() as name:
                windows, count = _measured(Path(name), reports=reports)
                found[reports] += windows
                made += count
    for reports, windows in found.items():
        p50, p99 = (statistics.median(window[n] for window in windows) for n in (0, 1))
        frames, late = (sum(window[n] for window in windows) for n in (2, 3))
        words = f"{made} reports made" if reports else "no reports"
        sys.stdout.write(
            f"{words:18} n {frames} in {len(windows)} windows  p50 {p50:.2f}  p99 {p99:.2f}  late {late}\n"
        )


def _measured(folder: Path, *, reports: bool) -> tuple[list[tuple[float, float, int, int]], int]:
    camera = {"source": "strip:?width=1600&height=256&seed=3", "fps": 30, "tile_px": 128}
    config = configured(folder, camera, report_s=8)
    other = folder / "other"
    other.mkdir()
    shelf_config = configured(other, camera)
    path = coil_records.write(other / "var" / "coils", coil_records.many(5000))
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(command(config, "run", "--for", "34s"), stdout=log, stderr=log)
    count, end_s = 0, time.monotonic() + 32
    child = [sys.executable, "-P", "-m", "edge.host.idle_command", str(os.getpid())]
    arguments = ["coil", "report", path.name.split(".")[0], "--keep", "end", "-c", str(shelf_config)]
    while reports and time.monotonic() < end_s:
        subprocess.run([*child, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        count += 1
    daemon.wait(90)
    windows = []
    for p50, p99, counts in LINE.findall((folder / "log").read_text())[1:4]:
        words = counts.split()
        frames = {words[n]: int(words[n + 1]) for n in range(0, len(words) - 1, 2) if words[n + 1].isdigit()}
        windows.append((float(p50), float(p99), sum(frames.values()), frames.get("late", 0) + frames.get("dropped", 0)))
    return windows, count


# ---- size ----------------------------------------------------------------------------------------------


def size(defects: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = configured(folder, {"source": "strip:"})
        truth = coil_records.many(defects)
        path = coil_records.write(folder / "var" / "coils", truth)
        grade = {"coil": "A4711", "product": "sheet", "grade": "B", "so_far": False, "reasons": [], "rules": []}
        coil_judgement.save(path.parent, CoilJudgement(truth.id, "A4711", grade=grade))
        sys.stdout.write(f"record {path.stat().st_size / 1e6:.2f} MB\n")
        for kind in ("json", "html", "pdf", "png", "csv", "csv.gz"):
            out, started_s = folder / f"coil.{kind}", time.monotonic()
            process = subprocess.Popen(
                command(config, "coil", "report", "A4711", "-o", str(out)), stdout=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(process.pid, 0)
            took_s, used_s = time.monotonic() - started_s, usage.ru_utime + usage.ru_stime
            sys.stdout.write(
                f"{kind:7} {out.stat().st_size / 1e6:6.2f} MB, {usage.ru_maxrss / 1024:.0f} MB of memory, "
                f"{used_s:.1f} s of processor, {took_s:.1f} s, exit {status}\n"
            )


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    what, number = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else None
    if what == "truth":
        truth(number or 120.0)
    elif what == "cost":
        cost(int(number or 4))
    else:
        size(int(number or 200_000))
