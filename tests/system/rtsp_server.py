"""An RTSP camera for tests: `/usr/bin/python3 rtsp_server.py PORT [FPS] [WIDTH] [HEIGHT] [LOGIN] [KEY]`.

Needs the distribution's Python, which has the GStreamer bindings. Prints "ready" and serves
rtsp://127.0.0.1:PORT/cam until it is killed.  After SIGSTOP it acts as a camera that has gone silent.
LOGIN: USER:PASSWORD; or `basic` or `digest`: a JSON object of users and their passwords is then read from stdin.
KEY is the distance of key frames, in frames; one second by default.
"""

import json
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

PIPELINE = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width={width},height={height},framerate={fps}/1 "
    "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={key} ! rtph264pay name=pay0 pt=96 )"
)


def main(port: str, fps: str = "10", width: str = "320", height: str = "240", login: str = "", key: str = "") -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINE.format(fps=fps, width=width, height=height, key=key or fps))
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
