"""A thread with a name, a start, a stop and a heartbeat."""

import threading

from fakes.clock import FakeClock

from edge.host.worker import Worker


def test_a_worker_runs_until_it_is_asked_to_stop():
    """`stop` waits for the function to return; the thread has the worker's name."""
    names = []
    worker = Worker(
        "tester", lambda: (names.append(threading.current_thread().name), worker.wait_for_stop(10)), FakeClock()
    )
    worker.start()
    assert worker.alive
    assert worker.stop(10)
    assert (names, worker.alive, worker.failure) == (["tester"], False, None)


def test_stop_reports_a_thread_that_hangs():
    """`stop` returns False after the timeout and leaves the thread alone."""
    release = threading.Event()
    worker = Worker("hanging", lambda: bool(release.wait(10)) and None, FakeClock())
    worker.start()
    assert not worker.stop(0.0)
    release.set()
    assert worker.join(10)


def test_a_failure_is_kept_for_the_owner(caplog):
    """An exception ends the thread, and the log and `failure` hold it."""

    def run():
        raise ValueError("broken")

    worker = Worker("failing", run, FakeClock())
    worker.start()
    assert worker.join(10)
    assert isinstance(worker.failure, ValueError)
    assert "the thread failing ended" in caplog.text


def test_a_worker_that_never_started_has_ended():
    """Stopping before the start does not raise."""
    assert Worker("unused", lambda: None, FakeClock()).stop(1)


def test_the_heartbeat_is_the_last_round():
    """`beat` stamps the monotonic time."""
    clock = FakeClock()
    worker = Worker("beating", lambda: None, clock)
    before = worker.beat_ns
    clock.advance(5)
    worker.beat()
    assert worker.beat_ns > before
