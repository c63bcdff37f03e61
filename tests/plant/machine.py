"""A plant machine in a container: a Debian root, booted by systemd-nspawn with its own systemd.

It shares the network of this machine, so that a broker on 127.0.0.1 is a broker outside the container.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Self

import pytest
from node import until

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("DEFECTD_PLANT_DIR", ROOT / ".plant"))
"""Where the root is kept between runs; git does not see it."""
MIRROR = os.environ.get("DEFECTD_PLANT_MIRROR", "")
"""Debian mirror for debootstrap; empty: debootstrap's own choice."""
PACKAGES = "systemd,systemd-sysv,dbus,udev,python3,python3-venv"
NEEDED = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "dpkg-deb": "dpkg",
}
BOOTED = ("running\n", "degraded\n")
CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}


def need_nspawn() -> None:
    """Skip the test with the names of the missing tools."""
    missing = sorted({package for program, package in NEEDED.items() if shutil.which(program) is None})
    if missing:
        pytest.skip(f"missing programs: apt-get install {' '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("booting a container needs root")


def debian() -> Path:
    """The root of which every machine is a copy.  The first call makes it: this takes minutes and the network."""
    root = CACHE / "bookworm"
    if root.exists():
        return root
    CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = CACHE / "bookworm.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    log = CACHE / "debootstrap.log"
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(unfinished)]
    with log.open("wb") as file:
        done = subprocess.run([*command, *filter(None, [MIRROR])], stdout=file, stderr=file, check=False)
    if done.returncode != 0:
        last = log.read_text(errors="replace").splitlines()[-1:]
        pytest.skip(f"debootstrap failed, see {log} (is there a mirror? DEFECTD_PLANT_MIRROR names one): {last}")
    unfinished.rename(root)
    return root


def pip_settings() -> dict[str, Path]:
    """The files that pip needs to reach its index, mounted in the container under the same names."""
    found = {"/etc/pip.conf": Path("/etc/pip.conf")}
    certificates = os.environ.get("PIP_CERT")
    if certificates:
        found[certificates] = Path(certificates).resolve()
    return {name: path for name, path in found.items() if path.exists()}


def pip_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in ("PIP_CERT", "PIP_INDEX_URL")}


class Machine:
    """One booted container.  folders: mounted read-only, by their names in the container."""

    def __init__(self, folder: Path, folders: dict[str, Path]) -> None:
        self.root = folder
        self._folders = {**pip_settings(), **folders}
        self._log = folder.with_suffix(".console")
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def __enter__(self) -> Self:
        subprocess.run(["cp", "-a", "--reflink=auto", str(debian()), str(self.root)], check=True)
        binds = [f"--bind-ro={path}:{name}" for name, path in self._folders.items()]
        boot = ["systemd-nspawn", "--quiet", f"--directory={self.root}", "--boot", "--register=no", "--keep-unit"]
        boot += ["--link-journal=no", f"--machine={self.root.name}", *binds]
        # In its own mount namespace: nspawn needs a tmpfs there, and nothing is left behind.
        script = 'mkdir -p /run/systemd/nspawn && mount -t tmpfs tmpfs /run/systemd/nspawn && exec "$@"'
        command = ["unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh", *boot]
        with self._log.open("wb") as log:
            self._nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._pid = until(self._init, 30, "the first process of the machine")
            until(lambda: self.run("systemctl", "is-system-running").stdout in BOOTED, 120, f"booted: {self._log}")
            self._let_limit_memory()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _init(self) -> int:
        assert self._nspawn is not None
        for children in Path(f"/proc/{self._nspawn.pid}/task").glob("*/children"):
            for pid in children.read_text().split():
                # nspawn's own child, called systemd-nspawn, is not the init process.
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                        return int(pid)
        return 0

    def _let_limit_memory(self) -> None:
        """With control groups v1 nspawn shows the memory controller read-only: MemoryMax= would have no effect."""
        if Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists():
            self.must("mount", "-o", "remount,rw,bind", "/sys/fs/cgroup/memory")
            self.must("systemctl", "daemon-reexec")

    def __exit__(self, *_: object) -> None:
        assert self._nspawn is not None
        if self._pid and self._nspawn.poll() is None:
            self.run("systemctl", "poweroff", "--no-block")
        try:
            self._nspawn.wait(30)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait(10)
        if self._pid:
            with contextlib.suppress(ProcessLookupError):  # it ended with nspawn
                os.kill(self._pid, signal.SIGKILL)
        for left in (*Path("/sys/fs/cgroup").glob("*/payload"), *Path("/sys/fs/cgroup").glob("*/supervisor")):
            for group in (*sorted(left.rglob("*/"), reverse=True), left):
                with contextlib.suppress(OSError):
                    group.rmdir()
        shutil.rmtree(self.root, ignore_errors=True)

    def run(self, *command: str, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine as root."""
        words = [f"{key}={value}" for key, value in {**CLEAN, **pip_environment()}.items()]
        return subprocess.run(
            ["nsenter", f"--target={self._pid}", "--mount", "--pid", "--uts", "--ipc", "env", "-i", *words, *command],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def must(self, *command: str) -> str:
        """Run a command that must succeed.  Returns its output."""
        done = self.run(*command)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def show(self, name: str) -> str:
        """The value of a property of the unit."""
        return self.must("systemctl", "show", "--property", name, "--value", "defectd").strip()

    def journal(self) -> str:
        return self.must("journalctl", "--unit=defectd", "--no-pager", "--output=cat")

    def path(self, name: str) -> Path:
        """The path of a file of the machine on this machine."""
        return self.root / name.lstrip("/")
