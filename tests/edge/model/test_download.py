"""Downloads over https: complete, or refused within limits."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.https_server import https_server

from edge.errors import BundleError
from edge.host.clock import SystemClock
from edge.model.download import download

BODY = bytes(range(256)) * 1000


class Answers(http.server.BaseHTTPRequestHandler):
    """One path for each kind of response."""

    ended = threading.Event()

    def do_GET(self) -> None:
        if self.path.startswith("/to-"):
            self.send_response(302)
            places = {"/to-file": "file:///etc/passwd", "/to-http": "http://127.0.0.1:1/x", "/to-self": "/to-self"}
            self.send_header("Location", places.get(self.path, "/good.zip"))
            self.end_headers()
            return
        self.send_response(404 if self.path == "/none" else 200)
        self.end_headers()
        try:
            if self.path == "/slow":
                while not self.ended.wait(0.02):
                    self.wfile.write(b"x")
            elif self.path == "/silent":
                self.ended.wait(20)
            else:
                self.wfile.write(BODY)
        except OSError:
            pass  # the client has hung up

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The URL of a server with a self-signed certificate, and that certificate."""
    with https_server(tmp_path_factory.mktemp("tls"), Answers) as running:
        yield running
        Answers.ended.set()


@pytest.fixture
def trusted(server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SSL_CERT_FILE", str(server[1]))
    return server[0]


def test_file_is_downloaded_directly_and_by_a_redirection(trusted, tmp_path):
    """All bytes are equal."""
    for path in ("/good.zip", "/to-good"):
        download(trusted + path, tmp_path / "x", SystemClock())
        assert (tmp_path / "x").read_bytes() == BODY


@pytest.mark.parametrize(
    ("path", "message", "limits"),
    [
        ("/none", "404", {}),
        ("/to-file", "https://", {}),
        ("/to-http", "https://", {}),
        ("/to-self", "cannot be downloaded", {}),
        ("/good.zip", "larger than", {"most": 1 << 10}),
        ("/slow", "is incomplete after", {"limit_s": 0.3}),
        ("/silent", "timed out", {"silence_s": 0.3}),
    ],
)
def test_download_fails_within_its_limits(trusted, tmp_path, path, message, limits):
    """Not found, redirected elsewhere, too large, too slow, silent."""
    with pytest.raises(BundleError, match=message):
        download(trusted + path, tmp_path / "x", SystemClock(), **limits)


def test_unknown_certificate_and_other_schemes_are_refused(server, tmp_path):
    """No trusted authority signed the certificate; or the scheme is not https."""
    with pytest.raises(BundleError, match="certificate"):
        download(server[0] + "/good.zip", tmp_path / "x", SystemClock())
    for url in ("http://127.0.0.1/x", "file:///etc/passwd", "ftp://h/x", "https://", "https://[", "x"):
        with pytest.raises(BundleError, match="https://"):
            download(url, tmp_path / "x", SystemClock())


def test_credentials_in_a_url_are_not_repeated(tmp_path):
    """The text of the error goes into logs and events."""
    with pytest.raises(BundleError) as raised:
        download("https://user:secret@127.0.0.1:1/x?token=hidden", tmp_path / "x", SystemClock())
    assert "secret" not in str(raised.value)
    assert "hidden" not in str(raised.value)
