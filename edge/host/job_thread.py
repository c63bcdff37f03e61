"""One thread that runs jobs, one after the other, with a bounded number of them waiting."""

from __future__ import annotations

import queue
from collections.abc import Callable

from edge.host.clock import Clock
from edge.host.worker import Worker

Job = Callable[[], None]
"""Must not raise."""


class JobThread:
    """Any thread may submit."""

    def __init__(self, name: str, clock: Clock, max_waiting: int) -> None:
        """max_waiting: jobs that may wait; more are refused."""
        self._jobs: queue.Queue[Job | None] = queue.Queue(max_waiting)
        self._worker = Worker(name, self._run, clock)

    def start(self) -> None:
        """Raises RuntimeError when the machine allows no more threads."""
        self._worker.start()

    def stop(self, timeout_s: float) -> bool:
        """Refuse what waits, and wait for the job that runs.  False when it still runs after that time."""
        self._worker.ask_stop()
        try:
            self._jobs.put_nowait(None)  # wakes the thread
        except queue.Full:
            pass  # then it is not asleep
        return self._worker.join(timeout_s)

    def submit(self, job: Job) -> bool:
        """False: too many jobs wait."""
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return False
        return True

    def _run(self) -> None:
        while not self._worker.is_stopping:
            job = self._jobs.get()
            self._worker.beat()
            if job is not None:
                job()
