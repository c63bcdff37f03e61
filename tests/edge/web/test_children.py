"""Commands as children of the page: one at a time, bounded in number, time and output, and ended with their parent."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from fakes.waiting import until

from edge.host.clock import SystemClock
from edge.web.children import MAX_WAITING, Children, Job
from edge.web.refusal import Refusal

PYTHON = (sys.executable, "-c")
ROOT = Path(__file__).parents[3]
TIED = (
    "import os, time; from edge.host.parent_process import die_with;"
    "print(die_with(os.getppid()), os.getpid(), flush=True); time.sleep(60)"
)
PARENT = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {TIED!r}]); time.sleep(60)"


def running(scene: Callable[[Children], Coroutine[Any, Any, None]]) -> None:
    """Play a scene with children whose arguments are Python."""

    async def main() -> None:
        children = Children(SystemClock(), PYTHON)
        task = asyncio.create_task(children.run())
        try:
            async with asyncio.timeout(20):
                await scene(children)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def submitted(children: Children, script: str, time_s: float = 10) -> Job:
    return children.submit([script], label="a test", by="edda", time_s=time_s)


def test_result_and_progress_of_a_job_are_kept() -> None:
    """The last line of its output is the result; its lines on stderr are the progress, without secrets."""

    async def scene(children: Children) -> None:
        job = submitted(
            children,
            "import sys; print('{\"done\": 1}', file=sys.stderr);"
            "print('rtsp://u:secret@h/ \\x1b[31m', file=sys.stderr); print('text'); print('{\"a\": [1]}')",
        )
        await job.has_ended.wait()
        assert (job.state, job.exit_code, job.result, job.progress) == ("done", 0, {"a": [1]}, {"done": 1})
        assert job.lines[-1] == "rtsp://***@h/ \\x1b[31m"
        assert children.job(job.id) is job

    running(scene)


def test_job_that_fails_gives_its_last_line() -> None:
    """With the exit code; a result does not count then."""

    async def scene(children: Children) -> None:
        job = submitted(children, "import sys; print('{}'); sys.exit('no such camera')")
        await job.has_ended.wait()
        assert (job.state, job.exit_code, job.reason) == ("failed", 1, "no such camera")
        assert job.as_json()["result"] is None
        with pytest.raises(Refusal, match="no such camera"):
            await children.run_to_end(["import sys; sys.exit('no such camera')"], label="x", by="edda")

    running(scene)


def test_jobs_wait_for_each_other_and_are_few() -> None:
    """One runs, four wait, more are refused; one that waits can be cancelled."""

    async def scene(children: Children) -> None:
        first = submitted(children, "import time; time.sleep(60)")
        while first.state != "running":  # noqa: ASYNC110 (turns of the loop, no time)
            await asyncio.sleep(0)
        waiting = [submitted(children, "print(1)") for _ in range(MAX_WAITING)]
        with pytest.raises(Refusal):
            submitted(children, "print(1)")
        children.cancel(waiting[0].id)
        children.cancel(first.id)
        await waiting[-1].has_ended.wait()
        assert [job.state for job in (first, *waiting)] == ["cancelled", "cancelled", "done", "done", "done"]

    running(scene)


def test_job_ends_after_its_time_and_its_output_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed with its own children; a flood of output makes no result and no memory."""
    monkeypatch.setattr("edge.web.children.MAX_OUTPUT_BYTES", 100_000)

    async def scene(children: Children) -> None:
        slow = submitted(children, "import os, time; os.fork(); time.sleep(60)", time_s=0.3)
        flood = submitted(children, "import sys; [print('x' * 1000, file=f) for f in (sys.stdout, sys.stderr) * 500]")
        await flood.has_ended.wait()
        assert (slow.state, flood.state) == ("failed", "failed")
        assert "longer than" in str(slow.reason)
        assert flood.reason == "its output is too long"
        assert len(flood.output) <= 100_000
        assert len(flood.lines) == 50

    running(scene)


def test_caller_who_leaves_cancels_what_runs_for_it() -> None:
    """A request that has ended needs no result."""

    async def scene(children: Children) -> None:
        asking = asyncio.create_task(children.run_to_end(["import time; time.sleep(60)"], label="x", by="edda"))
        while not children.jobs or children.jobs[0].state != "running":  # noqa: ASYNC110 (turns of the loop)
            await asyncio.sleep(0)
        asking.cancel()
        await children.jobs[0].has_ended.wait()
        assert children.jobs[0].state == "cancelled"

    running(scene)


def test_brief_job_is_not_kept() -> None:
    """Of those that come again and again nothing stays, however they end: others could not be asked for any more."""

    async def scene(children: Children) -> None:
        done = await children.run_to_end(["print(7)"], label="x", by="", is_brief=True)
        assert done.result == 7
        with pytest.raises(Refusal):
            await children.run_to_end(["raise SystemExit(3)"], label="x", by="", is_brief=True)
        assert children.jobs == ()

    running(scene)


def test_child_runs_the_command_line_and_ends_with_its_parent() -> None:
    """`edge.host.idle_command` is `defectd` for who started it; without that one it does not start."""
    command = [sys.executable, "-P", "-m", "edge.host.idle_command"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, str(os.getpid()), "--version"], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.startswith("defectd, version")
    orphan = subprocess.run([*command, "1", "--version"], capture_output=True, check=False, env=environment)
    assert (orphan.returncode, orphan.stdout) == (4, b"")
    parent = subprocess.Popen([*PYTHON, PARENT], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    tied, child = parent.stdout.readline().split()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert tied == "True"
    until(lambda: not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_bytes())
