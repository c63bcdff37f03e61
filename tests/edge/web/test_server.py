"""The connections of the page: streams, limits, what hostile and broken clients can do, and the stop."""

from __future__ import annotations

import http.client
import json
import select
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fakes.outbox import open_outbox
from fakes.page import PATIENCE_S, PageScene, add_users, page_settings, read_until, served_page
from fakes.page_feed import FakeFeed, frame_of, state_of
from fakes.waiting import until

from edge.delivery.outbox.rows import Draft
from edge.web import entry_links
from edge.web.route import Page, Request, Response, Route
from edge.web.server import Limits
from edge.web.settings import CameraSettings, PageSettings, Tls
from edge.web.static_files import StaticFiles

BIG = b"x" * (16 << 20)
"""More than the kernel buffers for a client that does not read."""


async def big(_page: Page, _request: Request) -> Response:
    return Response(content_type="text/plain", body=BIG)


async def broken(_page: Page, _request: Request) -> Response:
    raise ZeroDivisionError


async def endless(page: Page, _request: Request) -> Response:
    await page.feed.changed(page.feed.changes, 60)
    return Response.json({"schema": "test/1"})


async def echo(_page: Page, request: Request) -> Response:
    return Response.json({"schema": "test/1", "text": request.text("text"), "client": request.client})


EXTRA = (
    Route("GET", "/big", "anyone", big, "big", "text/plain"),
    Route("GET", "/broken", "anyone", broken, "broken", "text/plain"),
    Route("GET", "/endless", "anyone", endless, "endless", "text/plain"),
    Route("GET", "/echo", "anyone", echo, "echo", "text/plain"),
)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[PageScene]:
    """A page without users."""
    with served_page(tmp_path) as found:
        yield found


def read_to_end(client: socket.socket) -> bytes:
    data = b""
    try:
        while piece := client.recv(1 << 16):
            data += piece
    except ConnectionResetError:
        pass
    return data


# Streams


def test_viewer_gets_states_and_events(tmp_path: Path) -> None:
    """The stream starts with the newest state, gives events with their seq as id, and says bye at the stop."""
    with FakeFeed(tmp_path / "web.sock") as feed, ExitStack() as stack:
        with served_page(tmp_path) as scene:
            client = stack.enter_context(scene.client().opened())
            assert b"text/event-stream" in read_until(client, b"retry: ")
            feed.say(state_of(verdict="degraded"))
            assert b'"verdict": "degraded"' in read_until(client, b'"degraded"')
            feed.say({"kind": "event", "seq": 7, "payload": {"seq": 7, "type": "coil.started"}})
            data = read_until(client, b"coil.started")
            assert b"id: 7\nevent: event\ndata: " in data
        read_until(client, b"event: bye\n")


def test_viewer_who_comes_back_gets_what_was_missed(tmp_path: Path) -> None:
    """`after` is the seq of its last event: the next ones come out of the outbox, then those that happen."""
    box = open_outbox(tmp_path)
    box.append([Draft("t", {"event_id": f"e{n}", "seq": 0, "type": f"type{n}"}, f"e{n}") for n in range(1, 6)])
    with (
        FakeFeed(tmp_path / "web.sock") as feed,
        served_page(tmp_path) as scene,
        scene.client().opened("/api/v1/live?after=3") as client,
    ):
        data = read_until(client, b"type5")
        assert [b"type%d" % n in data for n in (3, 4, 5)] == [False, True, True]
        feed.say({"kind": "event", "seq": 5, "payload": {"type": "again"}})
        feed.say({"kind": "event", "seq": 6, "payload": {"type": "new"}})
        assert b"again" not in read_until(client, b"new")
    box.close()


def test_viewers_are_few(tmp_path: Path) -> None:
    """The thirty-third gets status 503; a viewer who leaves makes place."""
    with served_page(tmp_path) as scene, ExitStack() as stack:
        streams = [stack.enter_context(scene.client().opened()) for _ in range(32)]
        for stream in streams:
            read_until(stream, b"retry: ")
        until(lambda: scene.served.page.feed.viewers == 32)
        assert scene.client().get("/api/v1/live").code == "too_many"
        streams[0].close()
        until(lambda: scene.served.page.feed.viewers < 32)


def test_stream_ends_with_its_session(tmp_path: Path) -> None:
    """Who logs out, or is removed, sees nothing more."""
    add_users(tmp_path)
    with served_page(tmp_path) as scene:
        client = scene.as_role("vera")
        with client.opened() as stream:
            read_until(stream, b"retry: ")
            client.post("/api/v1/logout")
            read_until(stream, b"event: bye\n")


def test_frames_of_all_viewers_are_one_encoding(tmp_path: Path) -> None:
    """A request waits for the next frame; its regions are in a header; without a frame the answer is 204."""
    with FakeFeed(tmp_path / "web.sock") as feed, served_page(tmp_path) as scene:
        answers = []
        waiting = [
            threading.Thread(target=lambda: answers.append(scene.client().get("/api/v1/cameras/top/frame")))
            for _ in range(3)
        ]
        for thread in waiting:
            thread.start()
        want = feed.wanted(lambda one: one["cameras"])
        assert want["cameras"] == {"top": {"max_fps": 5.0, "longest_px": 1600}}
        feed.say(frame_of(3, regions=[{"class": "ä", "severity": "minor"}]), b"jpeg")
        for thread in waiting:
            thread.join(PATIENCE_S)
        assert {(answer.status, answer.body) for answer in answers} == {(200, b"jpeg")}
        described = json.loads(answers[0].headers["Defectd-Frame"])
        assert (described["epoch"], described["number"], described["regions"][0]["class"]) == ("e1", 3, "ä")
        started = time.monotonic()
        assert scene.client().get("/api/v1/cameras/top/frame?after=e1.3").status == 204
        assert 0.5 < time.monotonic() - started < 5


def test_unknown_camera_is_not_asked_for(scene: PageScene) -> None:
    """Nobody can make the page remember names."""
    assert scene.client().get("/api/v1/cameras/other/frame").code == "unknown_camera"


def test_stop_is_quick_although_streams_are_open(tmp_path: Path) -> None:
    """Within a second, with viewers, long polls and idle connections."""
    with ExitStack() as stack:
        with served_page(tmp_path, routes=EXTRA) as scene:
            for path in ("/endless", "/big", "/endless"):
                stack.enter_context(scene.client().opened(path))
            stack.enter_context(socket.create_connection(("127.0.0.1", scene.port)))
            until(lambda: len(scene.served.server._exchanges) == 3)
            started = time.monotonic()
        assert time.monotonic() - started < 1.0


# Limits


def test_connections_are_few(tmp_path: Path) -> None:
    """Those beyond the limit are closed at once; the others are served."""
    with served_page(tmp_path, limits=Limits(connections=3)) as scene, ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", scene.port), PATIENCE_S)) for _ in range(4)
        ]
        assert clients[-1].recv(1) == b""
        clients[0].close()
        until(lambda: len(scene.served.server._streams) == 2)
        assert scene.client().get("/healthz").status == 200


def test_client_that_sends_or_reads_nothing_is_left(tmp_path: Path) -> None:
    """Half a header, half a body, an answer that is not taken: each ends after its time."""
    limits = Limits(idle_s=0.2, body_s=0.2, send_s=0.2)
    with served_page(tmp_path, routes=EXTRA, limits=limits) as scene:
        for start in (
            b"GET /echo HTT",
            b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nx",
        ):
            with socket.create_connection(("127.0.0.1", scene.port), PATIENCE_S) as client:
                client.sendall(start)
                assert client.recv(1000) == b""
        with scene.client().opened("/big") as client:
            until(lambda: scene.served.server.refused["slow_client"] == 1)
            select.select([client], [], [], PATIENCE_S)


def test_answer_that_takes_too_long_is_503(tmp_path: Path) -> None:
    """The handler is ended; the connection goes on."""
    with served_page(tmp_path, routes=EXTRA, limits=Limits(answer_s=0.1)) as scene:
        assert scene.client().get("/endless").code == "timeout"


def test_handler_that_fails_is_500(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The error is in the log once, not in the answer, and no query with it."""
    with served_page(tmp_path, routes=EXTRA) as scene:
        for _ in range(3):
            answer = scene.client().get("/broken?token=secret")
            assert (answer.status, answer.code) == (500, "failed")
    records = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(records) == 1
    assert "secret" not in records[0].getMessage()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        b"POST /api/v1/login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /api/v1/login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/login HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_malformed_request_ends_its_connection(scene: PageScene, request_bytes: bytes) -> None:
    """It gets a status above 399 or nothing, and the others are served."""
    with socket.create_connection(("127.0.0.1", scene.port), PATIENCE_S) as client:
        client.sendall(request_bytes)
        client.shutdown(socket.SHUT_WR)
        data = read_to_end(client)
    assert not data or int(data.split()[1]) >= 400
    assert scene.client().get("/healthz").status == 200


def test_text_of_a_request_comes_back_as_json_only(tmp_path: Path) -> None:
    """A script in a parameter stays a text, of a type that no browser takes for a page."""
    with served_page(tmp_path, routes=EXTRA) as scene:
        answer = scene.client().get("/echo?text=%3Cscript%3Ealert(1)%3C/script%3E")
        assert answer.json["text"] == "<script>alert(1)</script>"
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_head_gives_the_header_alone(scene: PageScene) -> None:
    """With the length that the body would have; for a stream it ends at once."""
    got, headed = scene.client().get("/healthz"), scene.client().ask("HEAD", "/healthz")
    assert (headed.status, headed.body, headed.headers["Content-Length"]) == (200, b"", got.headers["Content-Length"])
    assert scene.client().ask("HEAD", "/api/v1/live").status == 200


# Proxies and TLS


def test_address_of_a_client_comes_from_known_proxies_only(tmp_path: Path) -> None:
    """The last address that is no proxy of ours; what the client itself writes before it counts for nothing."""
    header = "203.0.113.9, 198.51.100.7, 192.0.2.4"
    for proxies, expected in (((), "127.0.0.1"), (("127.0.0.1", "192.0.2.0/24"), "198.51.100.7")):
        with served_page(tmp_path, routes=EXTRA, behind_proxy=proxies) as scene:
            assert scene.client().get("/echo", X_Forwarded_For=header).json["client"] == expected


def test_page_works_below_a_base_path(tmp_path: Path) -> None:
    """Whether the proxy removes it or not; the index names its files below it."""
    with served_page(tmp_path, base_path="/line3") as scene:
        for path in ("/line3/api/v1/session", "/api/v1/session"):
            assert scene.client().get(path).status == 200
        assert b'"/line3/static/js/app.js"' in scene.client().get("/line3/coils").body
        assert scene.client().get("/line34/api/v1/session").headers["Content-Type"].startswith("text/html")


def test_page_is_served_over_tls(tmp_path: Path) -> None:
    """With the files of the configuration; a plain request gets nothing, and cookies are bound to the host."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    with served_page(tmp_path / "state", tls=Tls(certificate, key)) as scene:
        trusting = ssl.create_default_context(cafile=str(certificate))
        token = entry_links.create(tmp_path / "state" / "web", scene.served.page.clock.wall_ns())
        connection = http.client.HTTPSConnection("127.0.0.1", scene.port, timeout=PATIENCE_S, context=trusting)
        connection.request("GET", f"/enter?token={token}")
        answer = connection.getresponse()
        assert answer.headers["Set-Cookie"].startswith("__Host-defectd-line3=")
        connection.close()
        with socket.create_connection(("127.0.0.1", scene.port), PATIENCE_S) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert read_to_end(client) == b""


# Files


def test_file_is_sent_again_only_when_it_has_changed(scene: PageScene) -> None:
    """A browser asks with its tag and gets 304; what is asked for by its version may be kept for ever."""
    first = scene.client().get("/static/js/app.js")
    tag = first.headers["ETag"]
    assert (first.status, first.headers["Cache-Control"]) == (200, "no-cache")
    again = scene.client().get("/static/js/app.js", If_None_Match=f'"x", W/{tag}')
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
    versioned = scene.client().get("/static/js/app.js?v=" + tag.strip('"'))
    assert "immutable" in versioned.headers["Cache-Control"]


def test_front_end_answers_for_its_pages(scene: PageScene) -> None:
    """Every path of a page gives the index; a missing file and an unknown API path give 404."""
    for path in ("/", "/label", "/coils/A-4711%20b?m=812", "/events/7"):
        answer = scene.client().get(path)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    for path in ("/static/js/missing.js", "/api/v1/missing", "/api"):
        assert scene.client().get(path).status == 404


def test_link_in_the_folder_of_files_is_not_followed_outside(tmp_path: Path) -> None:
    """A symbolic link among the files serves nothing."""
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "static"
    folder.mkdir()
    (folder / "a.txt").symlink_to(tmp_path / "secret.txt")
    assert StaticFiles("", folder).response("/static/a.txt", None, "") is None


def test_settings_go_to_the_process_whole() -> None:
    """What is written is read again; anything else is refused with its reason."""
    full = page_settings(
        Path("/var/lib/defectd"),
        tls=Tls(Path("/c.pem"), Path("/k.pem")),
        hosts=("line3.plant.example",),
        behind_proxy=("192.0.2.1",),
        classes=("scratches",),
        cameras=(CameraSettings("top", "strip", 20.0, "exposed", "left", "rtsp://camera"),),
        config_path=None,
    )
    for settings in (full, page_settings(Path("/x"))):
        assert PageSettings.from_json(settings.to_json()) == settings
    for text in ("", "[]", "{}", '{"listen": 1}', full.to_json().replace('"listen"', '"listens"')):
        with pytest.raises(ValueError, match=r"settings|JSON|Expecting"):
            PageSettings.from_json(text)
