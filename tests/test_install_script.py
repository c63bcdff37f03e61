"""The scripts of deploy/: clean to shellcheck, with help, and careful before they change anything."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = [*sorted((ROOT / "deploy").glob("*.sh")), ROOT / ".ci" / "run"]
INSTALL = ROOT / "deploy" / "install.sh"


def install(*arguments, **environment):
    return subprocess.run(
        ["bash", str(INSTALL), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_clean_to_shellcheck(script):
    """shellcheck reports nothing at its default severity."""
    program = shutil.which("shellcheck")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("shellcheck is not installed, and CI is set: install the package shellcheck")
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([program, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""


def test_help_names_every_option():
    """--help lists each option that the script reads."""
    shown = install("--help")
    assert shown.returncode == 0
    text = INSTALL.read_text()
    words = text[text.index("read_arguments() {") :].split()
    read = {word[:-1] for word in words if word.startswith("--") and word.endswith(")")} - {"--help"}
    assert len(read) > 8
    assert [option for option in read if option not in shown.stdout] == []


@pytest.mark.parametrize(
    "arguments", [("--nonsense",), ("--config",), ("--purge",), ("--arch", "aarch64"), ("--offline",)], ids=" ".join
)
def test_wrong_usage_exits_with_2_and_shows_the_help(arguments):
    """An unknown option, a missing value and an option without its main option are wrong usage."""
    done = install(*arguments)
    assert done.returncode == 2
    assert "install.sh --bundle FOLDER" in done.stderr


def test_bundle_refuses_a_folder_with_other_files(tmp_path):
    """The other files stay."""
    (tmp_path / "letter.txt").write_text("dear")
    done = install("--bundle", str(tmp_path))
    assert done.returncode == 1
    assert "other files" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    ("cases", "words"),
    [
        ("*python_version*) echo 3.10.12;; *version_info*'<'*) exit 1", "found: python3=3.10.12"),
        ("*python_version*) echo 3.11.2;; *calcsize*) exit 1", "32-bit"),
        ("*python_version*) echo 3.11.2;; *ensurepip*) exit 1;; *venv*) echo python3.11-venv", "get install python3"),
    ],
    ids=["too old", "32 bit", "no venv"],
)
def test_unsuitable_python_is_reported_with_a_remedy(cases, words, tmp_path):
    """The message names a Python that is too old, 32-bit or without venv, and the command that helps."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "basename", "id", "cat", "mktemp", "ls", "rm"):
        (programs / name).symlink_to(shutil.which(name))
    (programs / "python3").write_text(f"#!/bin/sh\ncase $* in {cases};; esac\n")
    (programs / "python3").chmod(0o755)
    done = install("--bundle", str(tmp_path / "bundle"), PATH=str(programs))
    assert done.returncode == 1
    assert words in done.stderr


SYSTEMCTL = """#!/bin/bash
# Plays systemd for one unit, and kills the script that calls it for the time that the file `kill-at` names.
cd "$(dirname "$0")/.."
echo "$*" >> calls
if [[ -e kill-at && $(wc -l < calls) == "$(cat kill-at)" ]]; then kill -9 $PPID; exit 1; fi
case $* in
  *restart*defectd*) basename "$(readlink prefix/current)" > running; echo $((1 + $(cat pid))) > pid ;;
  *MainPID*) cat pid ;;
  *StatusText*) echo "1 of 1 cameras run" ;;
esac
"""


def site(folder: Path) -> Path:
    """Version v1 runs, v2 is complete beside it.  Returns the script, on the paths of this folder, that switches."""
    for name in ("v1", "v2"):
        share = folder / "prefix" / "versions" / name / "share" / "defectd"
        for part in (
            "udev/60-defectd-cameras.rules",
            "journald/60-defectd.conf",
            "defectd.service",
            "defectd-web.service",
        ):
            (share / part).parent.mkdir(parents=True, exist_ok=True)
            (share / part).write_text(f"{part} of {name}\n")
    for name, content in (("running", "v1\n"), ("pid", "100\n"), ("etc/config.yaml", "node: line3\n")):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    (folder / "prefix" / "current").symlink_to("versions/v1")
    (folder / "bin").mkdir()
    (folder / "bin" / "systemctl").write_text(SYSTEMCTL)
    (folder / "bin" / "systemctl").chmod(0o755)
    text = INSTALL.read_text()
    for key, value in (
        ("PREFIX", "prefix"),
        ("CONFIG_DIR", "etc"),
        ("UNIT_DIR", "units"),
        ("UDEV_RULES", "udev.rules"),
        ("JOURNALD_CONF", "journald.conf"),
        ("COMMAND", "command"),
        ("MAN_DIR", "man"),
        ("COMPLETION", "completion"),
    ):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{key}=")]
        text = text.replace(line, f"{key}={folder / value}")
    script = folder / "switch.sh"
    script.write_text(text.replace('main "$@"\n', 'CAMERAS="" PAGE="${PAGE:-}" START=yes\n"$@"\n'))
    return script


def run_on(folder: Path, *command: str, page: str = "") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PAGE": page,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "DEFECTD_SETTLE_S": "0",
    }
    return subprocess.run(
        ["bash", str(folder / "switch.sh"), *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )


@pytest.mark.parametrize("call", range(1, 12))
def test_switch_that_was_killed_is_finished_by_the_same_command(call, tmp_path):
    """Killed at each call of systemctl in turn: afterwards v2 runs, and v1 is kept as the version to go back to."""
    site(tmp_path)
    (tmp_path / "kill-at").write_text(str(call))
    run_on(tmp_path, "switch_to", "v2")
    (tmp_path / "kill-at").unlink()
    done = run_on(tmp_path, "switch_to", "v2")
    assert done.returncode == 0, done.stderr
    assert "defectd v2 runs" in done.stdout
    assert (tmp_path / "running").read_text() == "v2\n"
    links = {name: (tmp_path / "prefix" / name).readlink().name for name in ("current", "previous")}
    assert links == {"current": "v2", "previous": "v1"}
    assert (tmp_path / "prefix" / "versions" / "v1").is_dir()
    pid = (tmp_path / "pid").read_text()
    assert run_on(tmp_path, "switch_to", "v2").returncode == 0
    assert (tmp_path / "pid").read_text() == pid, "a finished install interrupts nothing"


@pytest.mark.parametrize("call", range(1, 12))
def test_switch_that_was_killed_can_be_taken_back(call, tmp_path):
    """The version that ran before the killed switch runs afterwards, whatever `previous` was."""
    site(tmp_path)
    (tmp_path / "kill-at").write_text(str(call))
    killed = run_on(tmp_path, "switch_to", "v2")
    (tmp_path / "kill-at").unlink()
    if killed.returncode == 0:
        pytest.skip("the switch makes fewer calls")
    done = run_on(tmp_path, "switch_to", "v1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "running").read_text() == "v1\n"
    assert (tmp_path / "prefix" / "current").readlink().name == "v1"


def test_manual_and_completion_are_those_of_the_version_that_runs(tmp_path):
    """A page that the new version no longer has goes; a version without any leaves none."""
    site(tmp_path)
    share = tmp_path / "prefix/versions/v2/share/defectd"
    (share / "man/man1").mkdir(parents=True)
    (share / "man/man1/defectd-run.1").write_text("v2\n")
    (share / "completion.bash").write_text("v2\n")
    (tmp_path / "man").mkdir()
    (tmp_path / "man/defectd-old.1").write_text("v1\n")
    assert run_on(tmp_path, "switch_to", "v2").returncode == 0
    assert [page.name for page in (tmp_path / "man").iterdir()] == ["defectd-run.1"]
    assert (tmp_path / "completion").read_text() == "v2\n"
    assert run_on(tmp_path, "switch_to", "v1").returncode == 0
    assert not list((tmp_path / "man").iterdir())
    assert not (tmp_path / "completion").exists()


def test_install_without_a_start_does_not_claim_that_the_new_version_runs(tmp_path):
    """The old version runs on, and the next install restarts the service."""
    script = site(tmp_path)
    text = script.read_text()
    script.write_text(text.replace('START=yes\n"$@"', 'START=no\n"$@"'))
    for _ in range(2):
        done = run_on(tmp_path, "switch_to", "v2")
        assert done.returncode == 0, done.stderr
        assert "still runs another version" in done.stdout
    script.write_text(text)
    assert "defectd v2 runs" in run_on(tmp_path, "switch_to", "v2").stdout
    assert (tmp_path / "running").read_text() == "v2\n"
    assert (tmp_path / "prefix" / "previous").readlink().name == "v1"


def test_unit_of_the_page_is_kept_by_upgrades_until_it_is_taken_back(tmp_path):
    """Off by default; with it the page is started once the new version runs; a version without one removes it."""
    site(tmp_path)
    unit = tmp_path / "units" / "defectd-web.service"
    assert run_on(tmp_path, "switch_to", "v2").returncode == 0
    assert not unit.exists()
    assert run_on(tmp_path, "switch_to", "v1", page="unit").returncode == 0
    assert "of v1" in unit.read_text()
    assert "enable --now defectd-web.service" in (tmp_path / "calls").read_text()
    assert run_on(tmp_path, "switch_to", "v2").returncode == 0
    assert "of v2" in unit.read_text()
    assert run_on(tmp_path, "switch_to", "v1", page="daemon").returncode == 0
    assert not unit.exists()
