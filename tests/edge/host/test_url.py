"""URLs with secrets: what is encoded in them, and what is shown of them."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.host.redact import mask_of
from edge.host.url import encoded_at, public_url, secrets_of, split

PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://admin:p%40ss@10.0.0.5:554/ch1?token=abc#x", "rtsp://10.0.0.5:554/ch1"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("rtsp://u:p@h:99999/x", "rtsp://(not a valid URL)"),
        ("rtsp://u:[p@h/x", "rtsp://(not a valid URL)"),
        ("rtsp://u:p#1@h/x", "rtsp://(hidden)"),
        ("rtsp://u:p@q?1@h/x", "rtsp://(hidden)"),
        ("rtsp://u:12/p@h/x", "rtsp://(hidden)"),
        ("rtsp:u:p@h/x", "rtsp:(hidden)"),
        ("http://h/user=a&password=p&channel=1", "http://h/user=a&password=***&channel=1"),
        ("/data/a@b:c/clip.mp4", "/data/a@b:c/clip.mp4"),
        ("strip:?seed=7", "strip:?seed=7"),
    ],
)
def test_public_url_hides_what_is_secret(url, shown):
    """User, password and query never appear; where a password may end is not guessed."""
    assert public_url(url) == shown


@given(PRINTABLE)
@example("S3CR3T#1")
@example("[S3CR3T]")
@example("a]b")
@example("p%40ss")
def test_any_text_survives_in_a_login(secret):
    """Encoded, it is read back as it was, and the host is still the host."""
    around = "rtsp://viewer:xxxx@10.0.0.20:554/stream1"
    parts = split(around.replace("xxxx", encoded_at(around, around.index("xxxx"), secret)))
    assert (unquote(parts.password or ""), parts.hostname, parts.port) == (secret, "10.0.0.20", 554)


@given(PRINTABLE)
def test_any_text_survives_as_a_parameter(secret):
    """In a query, its & and = belong to the value."""
    around = "http://cam/v?user=admin&p=xxxx&n=1"
    parts = split(around.replace("xxxx", encoded_at(around, around.index("xxxx"), secret)))
    assert parse_qs(parts.query) == {"user": ["admin"], "p": [secret], "n": ["1"]}


@pytest.mark.parametrize(
    "around", ["xxxx", "xxxx://h/x", "rtsp://xxxx/x", "rtsp://u:p@xxxx/x", "rtsp://h/xxxx", "http://h/v?xxxx"]
)
def test_text_outside_of_login_and_parameters_stays(around):
    """It may be a whole URL, a host with its port, a path, or several parameters."""
    assert encoded_at(around, around.index("xxxx"), "10.0.0.1:80/a?b=c#d") == "10.0.0.1:80/a?b=c#d"


def test_whole_login_may_come_from_one_text():
    """Its colon separates user and password."""
    around = "rtsp://xxxx@h/x"
    assert encoded_at(around, around.index("xxxx"), "admin:p@ss") == "admin:p%40ss"


@given(PRINTABLE.filter(lambda text: len(text) > 3))
def test_mask_finds_every_spelling(secret):
    """As it is, percent-encoded, quoted by Python, and in JSON."""
    around = "rtsp://viewer:xxxx@cam/s"
    url = around.replace("xxxx", encoded_at(around, around.index("xxxx"), secret))
    mask = mask_of(secrets_of(url))
    for spelling in (url, secret, repr(secret), f"({secret!r},)"):
        assert secret not in mask(f"could not open {spelling}") or secret in "could not open viewer:@cam/s"
