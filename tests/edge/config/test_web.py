"""The section `web`: a page is open to this machine, or protected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge import config
from edge.errors import ConfigError
from edge.host.clock import SystemClock
from edge.monitoring.doctor import page
from edge.page_settings import page_settings
from edge.web.settings import PageSettings


def loaded(folder: Path, **web: Any) -> config.Config:
    path = folder / "config.yaml"
    path.write_text(
        yaml.safe_dump({"node": "line3", "web": web, "cameras": [{"name": "top", "source": "rtsp://u:secret@h/x"}]})
    )
    return config.load(path)


@pytest.mark.parametrize("listen", ["0.0.0.0:8480", "[::]:8480", "192.0.2.7:8480", "line3:8480"])
def test_page_for_the_network_needs_encryption(tmp_path: Path, listen: str) -> None:
    """Its own, or that of a proxy; the message gives the remedies."""
    with pytest.raises(ConfigError, match=r"set web\.tls, or web\.behind_proxy, or listen on 127\.0\.0\.1"):
        loaded(tmp_path, listen=listen)
    tls = {"certificate": "c.pem", "key": "k.pem"}
    assert loaded(tmp_path, listen=listen, tls=tls).web.tls.key == tmp_path / "k.pem"
    assert loaded(tmp_path, listen=listen, behind_proxy=["192.0.2.1"]).web.address is not None


@pytest.mark.parametrize("listen", ["127.0.0.1:8480", "[::1]:8480", "localhost:1", "127.8.8.8:65535", None])
def test_page_for_this_machine_needs_nothing(tmp_path: Path, listen: str | None) -> None:
    """And null is no page."""
    assert (loaded(tmp_path, listen=listen).web.address is None) is (listen is None)


@pytest.mark.parametrize(
    "web",
    [
        {"listen": "8480"},
        {"listen": "127.0.0.1:0"},
        {"listen": "127.0.0.1:x"},
        {"base_path": "line3"},
        {"base_path": "/line3/"},
        {"base_path": "/a//b"},
        {"base_path": "/../x"},
        {"base_path": '/"><script>'},
        {"hosts": ["a b"]},
        {"hosts": ["https://line3"]},
        {"hosts": ["line3:8480"]},
        {"behind_proxy": ["proxy.example"]},
        {"behind_proxy": ["0.0.0.0/0"]},
        {"tls": {"certificate": "c.pem"}},
        {"process": "cron"},
    ],
)
def test_wrong_values_are_refused(tmp_path: Path, web: dict[str, Any]) -> None:
    """Each names its key."""
    with pytest.raises(ConfigError, match=r"web\."):
        loaded(tmp_path, **web)


def test_doctor_names_a_page_that_nobody_can_open(tmp_path: Path) -> None:
    """Open to the network without users, or with a certificate that cannot be read; a page of this machine is fine."""
    assert list(page.findings(loaded(tmp_path), SystemClock())) == []
    assert list(page.findings(loaded(tmp_path, listen=None), SystemClock())) == []
    settings = loaded(tmp_path, tls={"certificate": "c.pem", "key": "k.pem"}, listen="0.0.0.0:8480")
    assert [(one.about, one.grade) for one in page.findings(settings, SystemClock())] == [
        ("page certificate", "fail"),
        ("page users", "warning"),
    ]
    settings.state.page_users.parent.mkdir(parents=True)
    settings.state.page_users.touch()
    assert [one.about for one in page.findings(settings, SystemClock())] == ["page certificate"]


def test_settings_of_the_page_hold_no_secret(tmp_path: Path) -> None:
    """The process gets names, paths and addresses; a camera's login stays in the daemon."""
    settings = page_settings(loaded(tmp_path, hosts=["line3.example"], base_path="/line3"), tmp_path / "config.yaml")
    text = settings.to_json()
    assert "secret" not in text
    assert PageSettings.from_json(text) == settings
    assert settings.url == "http://line3.example:8480/line3/"
    assert all(
        Path(value).is_absolute()
        for key, value in json.loads(text).items()
        if key.endswith(("_dir", "_path", "_socket")) and key != "base_path"
    )
