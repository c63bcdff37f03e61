"""The shipped systemd unit is valid, and exposed no more than documented."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "systemd" / "defectd.service"
PAGE_UNIT = ROOT / "systemd" / "defectd-web.service"
DROP_INS = ROOT / "systemd" / "defectd.service.d"
PROGRAM = "/opt/defectd/current/bin/defectd"
MANUAL = "file:/opt/defectd/current/share/defectd/README.md"


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze; skip the test without it, but fail in CI."""
    program = shutil.which("systemd-analyze")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("systemd-analyze is not installed, and CI is set: install the package systemd")
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


def placed(folder: Path, drop_ins: tuple[str, ...], text: str) -> Path:
    """Write the unit and some of its drop-ins into a folder."""
    (folder / "defectd.service.d").mkdir(parents=True)
    (folder / "defectd.service").write_text(text)
    for name in drop_ins:
        shutil.copy(DROP_INS / name, folder / "defectd.service.d")
    return folder / "defectd.service"


ALL = tuple(sorted(path.name for path in DROP_INS.iterdir()))


@pytest.mark.parametrize("drop_ins", [(), *((name,) for name in ALL), ALL])
def test_unit_is_clean_to_systemd_analyze_verify(drop_ins, tmp_path):
    """It reports nothing for the unit alone and with each drop-in; installed files replace ours."""
    text = UNIT.read_text()
    assert PROGRAM in text
    assert MANUAL in text
    text = text.replace(PROGRAM, "/bin/true").replace(MANUAL, "man:true(1)")
    done = analyze("verify", str(placed(tmp_path, drop_ins, text)))
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


def test_verification_finds_a_mistyped_key(tmp_path):
    """systemd-analyze verify reports an unknown key."""
    text = UNIT.read_text().replace("WatchdogSec=", "WatchdogSecs=").replace(PROGRAM, "/bin/true")
    assert "WatchdogSecs" in analyze("verify", str(placed(tmp_path, (), text))).stderr


@pytest.mark.parametrize(
    ("drop_ins", "max_score"),
    [((), 17), (("addresses.conf",), 17), (ALL, 11)],
    ids=["local cameras", "local cameras and addresses", "network cameras"],
)
def test_unit_is_exposed_no_more_than_documented(drop_ins, max_score, tmp_path):
    """systemd's exposure score, times ten, is 17 with USB cameras and 11 with --network-cameras."""
    placed(tmp_path / "etc/systemd/system", drop_ins, UNIT.read_text())
    arguments = ("security", "--offline=true", f"--root={tmp_path}", "--no-pager")
    done = analyze(*arguments, f"--threshold={max_score}", "defectd.service")
    assert done.returncode == 0, done.stdout[-200:]
    assert analyze(*arguments, "--threshold=5", "defectd.service").returncode != 0, "the check can fail"


def test_exit_codes_of_the_command_line_are_those_of_the_unit():
    """systemd does not restart on the daemon's exit code for a refused configuration."""
    from edge.cli.exit_codes import EXIT_CONFIG

    assert f"RestartPreventExitStatus={EXIT_CONFIG}" in UNIT.read_text().splitlines()


def test_unit_of_the_page_is_clean_and_as_hardened(tmp_path):
    """No device, no privilege, and the processor only when nobody else needs it."""
    text = PAGE_UNIT.read_text()
    assert f"{PROGRAM} web" in text
    hardening = [line for line in UNIT.read_text().partition("# Hardening.")[2].splitlines() if line.startswith("P")]
    assert set(hardening) - {"PrivateDevices=no"} <= set(text.splitlines())
    assert {"CPUSchedulingPolicy=idle", "MemoryMax=25%", "PrivateDevices=yes"} <= set(text.splitlines())
    folder = tmp_path / "etc/systemd/system"
    placed(folder, (), UNIT.read_text())
    (folder / PAGE_UNIT.name).write_text(text)
    done = analyze(
        "security", "--offline=true", f"--root={tmp_path}", "--no-pager", "--threshold=14", "defectd-web.service"
    )
    assert done.returncode == 0, done.stdout[-200:]
    units = tmp_path / "units"
    placed(units, (), UNIT.read_text().replace(PROGRAM, "/bin/true").replace(MANUAL, "man:true(1)"))
    (units / PAGE_UNIT.name).write_text(text.replace(f"{PROGRAM} web", "/bin/true").replace(MANUAL, "man:true(1)"))
    done = analyze("verify", str(units / PAGE_UNIT.name))
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
