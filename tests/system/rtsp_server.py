"""An RTSP camera for tests: `/usr/bin/python3 rtsp_server.py PORT [FPS] [WIDTH] [HEIGHT] [LOGIN] [KEY] [FIFO]`.

Needs the distribution's Python, which has the GStreamer bindings. Prints "ready" and serves
rtsp://127.0.0.1:PORT/cam until it is killed.  After SIGSTOP it acts as a camera that has gone silent.
LOGIN: USER:PASSWORD; or `basic` or `digest`: a JSON object of users and their passwords is then read from stdin.
KEY is the distance of key frames, in frames; one second by default.  FIFO: frames of 8 bit gray come from there.
"""

import json
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

BALL = "videotestsrc is-live=true pattern=ball ! video/x-raw,width={width},height={height},framerate={fps}/1"
GIVEN = (
    "filesrc location={fifo} ! rawvideoparse format=gray8 width={width} height={height} framerate={fps}/1 "
    "! videoconvert ! video/x-raw,format=I420"
)
CODED = " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={key}{quality} ! rtph264pay name=pay0 pt=96 )"
FINE = " pass=qual quantizer=16"
"""Steel is texture: at the usual bit rate H.264 smooths it."""


def main(
    port: str,
    fps: str = "10",
    width: str = "320",
    height: str = "240",
    login: str = "",
    key: str = "",
    fifo: str = "",
) -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    picture = (GIVEN if fifo else BALL).format(fps=fps, width=width, height=height, fifo=fifo)
    factory.set_launch("( " + picture + CODED.format(key=key or fps, quality=FINE if fifo else ""))
    factory.set_shared(True)
    if login:
        is_list = login in ("basic", "digest")
        users = json.load(sys.stdin) if is_list else dict([login.split(":", 1)])
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        for user, password in users.items():
            if login == "digest":
                auth.add_digest(user, password, token)
            else:
                auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        if login == "digest":
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        server.set_auth(auth)
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory("/cam", factory)
    if not server.attach(None):
        sys.exit(f"port {port} is taken")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


main(*sys.argv[1:])
