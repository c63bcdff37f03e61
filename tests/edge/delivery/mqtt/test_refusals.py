"""Reasons and remedies of failed connections."""

from __future__ import annotations

import socket
import ssl

import pytest

from edge.delivery.mqtt import refusals


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "x"), "cannot be resolved"),
        (TimeoutError("timed out"), "no answer from h:1"),
        (ConnectionRefusedError(), "nothing listens"),
        (ConnectionResetError(), "closed the connection without an answer"),
        (OSError(101, "Network is unreachable"), "no way to"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "TLS with h:1 failed"),
        (ValueError("odd"), "cannot be reached"),
    ],
)
def test_every_failure_to_connect_has_a_message(error, words):
    """The message names the fault and its remedy."""
    found = refusals.of_error(error, "h", 1, tls=True)
    assert words in found.reason
    assert found.remedy


@pytest.mark.parametrize("code", [10, 18, 19, 20, 62, 99])
def test_every_certificate_problem_has_a_message(code):
    """The message names an expired certificate, an unknown authority or another host, and the remedy."""
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_code, error.verify_message = code, "odd"
    found = refusals.of_error(error, "h", 1, tls=True)
    assert "certificate of h:1" in found.reason
    assert found.remedy


def test_a_hang_up_over_tls_asks_about_the_port_first():
    """TLS on a plain port is the usual mistake; a broker that wants a client certificate hangs up in the same way."""
    remedy = refusals.of_silence("h", 1, tls=True).remedy
    assert remedy.index("TLS port") < remedy.index("client certificate")
