"""The camera process: `python -m edge.camera.process LINK MEMORY PARENT`, one source, one ring, no decisions.

The job comes as JSON on stdin, because URLs hold passwords and every user can read command lines. The process ends
when its source fails, and when the daemon sends stop or is gone; whether it starts again is the supervisor's
business. What the libraries print goes to stderr, and the supervisor limits how much of it is logged.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2

from edge.camera.ring import Hangup, RingWriter, cut
from edge.camera.sources.contract import Source, SourceSpec
from edge.camera.sources.registry import open_source
from edge.errors import CameraError, EndOfRecording
from edge.host.clock import NS_PER_S, Clock, SystemClock
from edge.host.redact import mask_of
from edge.host.url import secrets_of

EXIT_DONE = 0
EXIT_BUG = 1
EXIT_CAMERA = 3
EXIT_ORPHAN = 4
OOM_SCORE = 500
"""When memory runs out, the kernel kills a camera before the daemon: a camera can be started again."""

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


@dataclass(frozen=True, slots=True)
class Job:
    """What one camera process has to do."""

    camera: str
    spec: SourceSpec
    slots: int
    number: int = 0
    """Of the first frame: the count goes on where the last process of this camera ended."""

    def to_json(self) -> str:
        fields = {"camera": self.camera, "slots": self.slots, "number": self.number, "spec": self.spec.to_json()}
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Raises CameraError if the text is not what `to_json` wrote."""
        try:
            fields = json.loads(text)
            spec = SourceSpec.from_json(fields["spec"])
            return cls(str(fields["camera"]), spec, int(fields["slots"]), int(fields["number"]))
        except (ValueError, TypeError, KeyError) as error:
            raise CameraError(f"the job of this camera process cannot be read: {error}") from None


def main(arguments: list[str]) -> int:
    """Run one camera.  Returns the exit code."""
    link_fd, memory, parent = (int(text) for text in arguments)
    if not die_with(parent):
        return EXIT_ORPHAN
    job = Job.from_json(sys.stdin.read())
    _set_up_process(job.camera)
    # The descriptors keep the daemon's numbers; select() wants one below 1024.
    link = socket.socket(fileno=os.dup(link_fd))
    os.close(link_fd)
    clock = SystemClock()
    ring = RingWriter(link, memory, clock, slots=job.slots, live=job.spec.live, number=job.number)
    try:
        ring.send_note("started")
        _run(job, ring, clock)
        ring.send_note("ended")
    except Hangup:
        return EXIT_DONE
    except CameraError as error:
        _send_error(ring, str(error))
        return EXIT_CAMERA
    except Exception as error:  # the top of a process: report the error and end visibly
        _send_error(ring, mask_of(secrets_of(job.spec.url))(f"{type(error).__name__}: {error}"))
        raise
    return EXIT_DONE


def _run(job: Job, ring: RingWriter, clock: Clock) -> None:
    source = open_source(job.spec, clock)
    try:
        ring.send_note("opened", actual=source.actual.as_json())
        try:
            play(source, ring, clock, burst=job.slots)
        except EndOfRecording:
            pass
        finally:
            _send_lost(source, ring)
            ring.send_dropped()
    finally:
        source.close()


def play(source: Source, ring: RingWriter, clock: Clock, *, burst: int) -> None:
    """Put pictures from the source into the ring until one of them raises: EndOfRecording, CameraError or Hangup.

    A source without a pace of its own follows a schedule that does not drift: each picture is read before it is due,
    and stamped when it is due. burst: how many pictures it may be late and still catch up.
    """
    period_ns = round(source.period_s * NS_PER_S)
    due_ns = clock.monotonic_ns()
    while True:
        picture = source.read()
        grabbed_ns = clock.monotonic_ns()
        if period_ns:
            due_ns = max(due_ns, grabbed_ns - burst * period_ns)
            if due_ns > grabbed_ns:
                ring.sleep_until(due_ns)
                grabbed_ns = clock.monotonic_ns()
            due_ns += period_ns
        _send_lost(source, ring)
        ring.put(picture.pixels, grabbed_ns, picture.decode_us, picture.label)


def _send_lost(source: Source, ring: RingWriter) -> None:
    for lost in source.take_lost():
        ring.send_note("discarded", count=lost.count, reason=lost.reason, detail=cut(lost.detail))


def _send_error(ring: RingWriter, message: str) -> None:
    try:
        ring.send_note("error", message=cut(message))
    except Hangup:
        pass  # the daemon is gone


def die_with(parent: int) -> bool:
    """Let the kernel kill this process when the thread that started it ends.  False if the parent is gone already."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent  # checked after prctl, because the parent may have died before


def _set_up_process(camera: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon, which stops its cameras in order
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # inherited: a daemon may block signals in its threads
    ctypes.CDLL(None).prctl(_PR_SET_NAME, f"cam-{camera}".encode()[:15], 0, 0, 0)
    cv2.setNumThreads(1)
    score = Path("/proc/self/oom_score_adj")
    try:
        score.write_text(str(max(OOM_SCORE, int(score.read_text("ascii")))), "ascii")
    except (OSError, ValueError):
        pass  # some containers forbid it; the process works without


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
