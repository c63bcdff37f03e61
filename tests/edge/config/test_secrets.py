"""Passwords in the configuration: any text may be one, and no message shows it."""

from __future__ import annotations

import traceback
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import load, parse, require_secrets
from edge.errors import ConfigError

ODD = ["S3CR3T#1", "p@ss#1", "[S3CR3T]", "a]b", "[a", "a/b?c", "p%40ss", " a b ", "a:b", 'it\'s "q"', "grün€", "${X}"]
UNREADABLE = {"URL": "rtsp://u:S3CR3T/@h/x"}
PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), min_size=1, max_size=40)


def configured(source: str, env: dict[str, str] | None = None, base: Path = Path("/"), **keys: object):
    raw = {"node": "n1", "cameras": [{"name": "top", "source": source}], **keys}
    return parse(raw, origin="c.yaml", base=base, env=env or {})


def login(config) -> tuple[str, str, str | None]:
    parts = urlsplit(config.cameras[0].source.get_secret_value())
    return unquote(parts.username or ""), unquote(parts.password or ""), parts.hostname


@pytest.mark.parametrize("password", ODD)
@pytest.mark.parametrize("reference", ["file:pw", "credential:pw", "PW"])
def test_camera_gets_any_password_that_a_reference_names(password, reference, tmp_path):
    """From a file, a credential or the environment; the camera's address stays what it was."""
    (tmp_path / "pw").write_text(password + "\n")
    found = configured(f"rtsp://viewer:${{{reference}}}@10.0.0.20/s", {"PW": password}, tmp_path)
    assert login(found) == ("viewer", password, "10.0.0.20")


@given(PRINTABLE)
def test_password_of_the_environment_is_what_the_camera_gets(password):
    """Whatever its characters."""
    assert login(configured("rtsp://viewer:${PW}@10.0.0.20/s", {"PW": password}))[1] == password


def test_user_and_password_may_both_be_references():
    """A user name can be an e-mail address."""
    found = configured("http://${WHO}:${PW}@cam/v?size=640", {"WHO": "a@b.example", "PW": "x/y"})
    assert login(found) == ("a@b.example", "x/y", "cam")


def test_password_that_is_written_into_the_file_stays_as_it_is():
    """It is percent-encoded there, as in any URL; so is the default of a variable."""
    for source in ("rtsp://viewer:p%40ss@cam/s", "rtsp://viewer:${NO:-p%40ss}@cam/s"):
        assert configured(source).cameras[0].source.get_secret_value() == "rtsp://viewer:p%40ss@cam/s"


@pytest.mark.parametrize("password", ODD)
def test_broker_gets_any_password(password, tmp_path):
    """As a reference and as a file, blanks included."""
    (tmp_path / "pw").write_text(password + "\n")
    for keys in ({"password_file": "pw"}, {"password": "${file:pw}"}):
        found = configured("0", base=tmp_path, mqtt={"username": "u", **keys})
        assert found.mqtt.read_password() == password


@pytest.mark.parametrize(
    "source",
    ["rtsp://u:[S3CR3T]@h/x", "rtsp://u:S3CR3T#1@h/x", "rtsp://u:S3CR3T?@h/x", "rtsp://u:p]S3CR3T@h/x", "${URL}"],
)
def test_url_that_cannot_be_read_is_refused_without_a_part_of_it(source):
    """The message says how to write the password, and does not repeat it."""
    with pytest.raises(ConfigError, match=r"write %23 for #.*or take it from \$\{file:PATH\}") as caught:
        configured(source, UNREADABLE)
    assert "S3CR3T" not in "".join(traceback.format_exception(caught.value))


def test_missing_file_is_named_with_the_command_that_makes_it(tmp_path):
    """Its owner alone can read it, and the shell's history does not show the secret."""
    with pytest.raises(ConfigError) as caught:
        configured("rtsp://viewer:${file:my password}@10.0.0.20/s", base=tmp_path)
    command = f"install -m 600 /dev/stdin '{tmp_path}/my password'"
    assert f"it is missing. Make it with `{command}`" in str(caught.value)


def test_check_names_a_missing_password_file(tmp_path):
    """A daemon starts without it and reads it at each connection; `check` says what is missing."""
    (tmp_path / "c.yaml").write_text("node: n1\ncameras: [{name: top, source: 'strip:'}]\nmqtt: {broker: mqtts://b, ")
    with (tmp_path / "c.yaml").open("a") as file:
        file.write("username: u, password_file: pw}\n")
    found = load(tmp_path / "c.yaml", {})
    with pytest.raises(ConfigError, match=f"mqtt.password_file: .*install -m 600 /dev/stdin {tmp_path}/pw"):
        require_secrets(found, "c.yaml")
    (tmp_path / "pw").write_text("x")
    require_secrets(found, "c.yaml")
