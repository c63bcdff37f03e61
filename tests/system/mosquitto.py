"""A real mosquitto on a free port, which a test can stop, kill and start again with the state that it saved."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from fakes.ports import free_port

PROGRAM = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
NOBODY_ID = 65534


def need_mosquitto() -> None:
    """Skip the test without mosquitto; fail in CI, which requires it."""
    if PROGRAM is None:
        if os.environ.get("CI"):
            pytest.fail("mosquitto is not installed, and CI is set: install the package mosquitto")
        pytest.skip("mosquitto is not installed")


class Mosquitto:
    """folder: for its files, made accessible to its user.  lines: further lines of its configuration."""

    def __init__(
        self, folder: Path, *lines: str, port: int | None = None, anonymous: bool = True, persistent: bool = True
    ) -> None:
        self.port = port or free_port()
        self.folder = folder
        self.log = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None
        data = folder / "data"
        data.mkdir(exist_ok=True)
        config = [
            "per_listener_settings false",
            f"listener {self.port} 127.0.0.1",
            f"allow_anonymous {'true' if anonymous else 'false'}",
            f"persistence {'true' if persistent else 'false'}",
            f"persistence_location {data}/",
            "autosave_interval 1",
            "max_queued_messages 100000",
            "log_dest stderr",
            "connection_messages true",
            *lines,
        ]
        self._config = folder / "mosquitto.conf"
        self._config.write_text("\n".join(config) + "\n")

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> Mosquitto:
        assert PROGRAM is not None
        command = [PROGRAM, "-c", str(self._config)]
        if os.geteuid() == 0:  # as root it would drop to a user that may not enter the test's folder
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, NOBODY_ID, NOBODY_ID)
            command = ["setpriv", f"--reuid={NOBODY_ID}", f"--regid={NOBODY_ID}", "--clear-groups", *command]
            self._let_through()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                return self
            except OSError:
                time.sleep(0.01)
        self.stop()
        raise AssertionError(f"mosquitto did not start:\n{self.log.read_text()}")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def _let_through(self) -> None:
        """Only their owner can enter pytest's folders: open those that are ours to others."""
        for parent in self.folder.parents:
            status = parent.stat()
            if parent == Path("/") or status.st_uid != os.geteuid() or parent == Path("/tmp"):
                break
            parent.chmod(status.st_mode | 0o011)


def certificates(folder: Path) -> Path:
    """A CA with a server certificate for localhost and 127.0.0.1, and another CA that signed nothing."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other"):
        subject = f"/CN=test-{name}"
        openssl("req", "-x509", *key, "-days", "30", "-subj", subject, "-keyout", f"{name}.key", "-out", f"{name}.crt")
    openssl("req", *key, "-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr")
    (folder / "server.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    sign = ["x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"]
    openssl(*sign, "-days", "7", "-extfile", "server.ext", "-out", "server.crt")
    openssl(*sign, "-days", "0", "-extfile", "server.ext", "-out", "expired.crt")
    return folder
