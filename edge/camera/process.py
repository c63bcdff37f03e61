"""The camera process: `python -m edge.camera.process LINK MEMORY PARENT`, one source, one ring, no decisions.

The job comes as JSON on stdin, because URLs hold passwords and command lines can be read by every user. The
process ends when its source fails, when the daemon says stop or is gone; whether it starts again is the
supervisor's business. Chatter of the libraries goes to stderr, which the supervisor bounds.
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
from edge.camera.sources.device import Source, SourceSpec, open_source
from edge.errors import CameraError, EndOfRecording
from edge.host.clock import NS_PER_S, Clock, SystemClock

EXIT_DONE = 0
EXIT_BUG = 1
EXIT_CAMERA = 3
EXIT_ORPHAN = 4
OOM_SCORE = 500
"""When memory ends, a camera goes before the daemon: it can be started again."""

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


@dataclass(frozen=True, slots=True)
class Job:
    """What one camera process is to do."""

    camera: str
    spec: SourceSpec
    slots: int
    number: int = 0
    """Of the first frame: counts on where the last process of this camera ended."""

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
    _settle(job.camera)
    # The descriptors keep the daemon's numbers; select() wants one below 1024.
    link = socket.socket(fileno=os.dup(link_fd))
    os.close(link_fd)
    clock = SystemClock()
    ring = RingWriter(link, memory, clock, slots=job.slots, live=job.spec.live, number=job.number)
    try:
        ring.tell("started")
        _run(job, ring, clock)
        ring.tell("ended")
    except Hangup:
        return EXIT_DONE
    except CameraError as error:
        _tell_error(ring, str(error))
        return EXIT_CAMERA
    except Exception as error:  # the top of a process: say it and end visibly
        _tell_error(ring, f"{type(error).__name__}: {error}")
        raise
    return EXIT_DONE


def _run(job: Job, ring: RingWriter, clock: Clock) -> None:
    source = open_source(job.spec, clock)
    try:
        ring.tell("opened", given=source.given.as_json())
        try:
            play(source, ring, clock, burst=job.slots)
        except EndOfRecording:
            pass
        finally:
            _tell_lost(source, ring)
            ring.tell_dropped()
    finally:
        source.close()


def play(source: Source, ring: RingWriter, clock: Clock, *, burst: int) -> None:
    """Pictures from the source into the ring until one of them raises: EndOfRecording, CameraError or Hangup.

    A source without a pace of its own is held to a schedule that does not drift. Its next picture is made
    ready before it is due, and stamped when it is. burst: how many pictures it may be behind and catch up.
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
        _tell_lost(source, ring)
        ring.put(picture.pixels, grabbed_ns, picture.decode_us, picture.label)


def _tell_lost(source: Source, ring: RingWriter) -> None:
    for lost in source.take_lost():
        ring.tell("discarded", count=lost.count, reason=lost.reason, detail=cut(lost.detail))


def _tell_error(ring: RingWriter, message: str) -> None:
    try:
        ring.tell("error", message=cut(message))
    except Hangup:
        pass  # nobody is left to hear it


def die_with(parent: int) -> bool:
    """Be killed when the thread that started this process ends.  False if its process is gone already."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent  # asked after prctl: it may have died in between


def _settle(camera: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon, which stops its cameras in order
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # inherited: a daemon may block signals in its threads
    ctypes.CDLL(None).prctl(_PR_SET_NAME, f"cam-{camera}".encode()[:15], 0, 0, 0)
    cv2.setNumThreads(1)
    score = Path("/proc/self/oom_score_adj")
    try:
        score.write_text(str(max(OOM_SCORE, int(score.read_text("ascii")))), "ascii")
    except (OSError, ValueError):
        pass  # a courtesy; some containers forbid it


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
