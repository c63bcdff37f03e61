"""An RTSP camera that shows pictures in turn: `/usr/bin/python3 slide_server.py PORT FOLDER SHOW_MS FPS`.

Needs the distribution's Python, which has the GStreamer bindings. FOLDER holds 000.png, 001.png and so on. Prints
"ready"; the show starts when the first client requests rtsp://127.0.0.1:PORT/cam and ends with its last picture.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PIPELINE = (
    '( multifilesrc location="{folder}/%03d.png" caps="image/png,framerate=(fraction)1000/{show_ms}" ! pngdec '
    "! videoconvert ! videorate ! video/x-raw,format=I420,framerate={fps}/1 "
    "! x264enc tune=zerolatency speed-preset=ultrafast bitrate=4000 key-int-max={fps} ! rtph264pay name=pay0 pt=96 )"
)


def main(port: str, folder: str, show_ms: str, fps: str) -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINE.format(folder=folder, show_ms=show_ms, fps=fps))
    factory.set_shared(True)
    server.get_mount_points().add_factory("/cam", factory)
    if not server.attach(None):
        sys.exit(f"port {port} is taken")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


main(*sys.argv[1:])
