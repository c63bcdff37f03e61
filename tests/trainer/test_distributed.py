"""One training in several processes, and several trainings in parallel."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from trainer.distributed import World, from_first, in_parallel, join_processes, summed

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two gloo processes under torchrun: (their folder, the result of each)."""
    folder = tmp_path_factory.mktemp("two")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    root = str(HERE.parents[1])
    done = subprocess.run(
        [*torchrun, HERE / "two_processes.py", folder],
        capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": root},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, [torch.load(folder / f"result-{rank}.pt", weights_only=True) for rank in (0, 1)]


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_processes_train_one_network(results):
    """Both end with the same weights and statistics, although they start with different ones, and learn."""
    _, (first, second) = results
    assert first["size"] == second["size"] == 2
    assert equal(first["whole"], second["whole"])
    right, of = first["right"][-1]
    assert of == 30
    assert right > 20


def test_only_the_first_process_writes_and_reports(results):
    """There is one checkpoint, no draft, and each epoch is reported once."""
    folder, (first, second) = results
    assert sorted(p.name for p in folder.iterdir()) == ["half.pt", "result-0.pt", "result-1.pt", "run.pt"]
    assert len(first["right"]) == 6
    assert second["right"] == []


def test_processes_resume_from_a_checkpoint(results):
    """From the checkpoint after the second epoch both get the same weights as without interruption."""
    _, (first, second) = results
    assert equal(first["resumed"], first["whole"])
    assert equal(second["resumed"], first["whole"])


def test_processes_end_without_threads_of_the_group(results):
    """A thread that is left would abort the process now and then while the interpreter exits."""
    _, found = results
    assert [[name for name in one["threads"] if "gloo" in name] for one in found] == [[], []]


def test_without_torchrun_a_process_is_alone(monkeypatch):
    """Its world has size 1, and values pass through unchanged."""
    monkeypatch.delenv("RANK", raising=False)
    with join_processes() as world:
        assert world == World(0, 1)
        assert world.first
        assert from_first("value") == "value"
        assert float(summed(torch.tensor(2.0))) == 2.0


def squared(number, report):
    """The work of a parallel process."""
    if number < 0:
        raise ValueError(f"{number} is below zero")
    report(f"squaring {number}")
    return number * number


def asleep(number, report):
    report("asleep")
    threading.Event().wait(0 if number == 0 else 600)
    return number


def test_parallel_work_gives_every_result_and_forwards_lines():
    """Three items in two processes give three results and a line from each."""
    lines = []
    assert sorted(in_parallel(squared, [1, 2, 3], 2, lines.append)) == [1, 4, 9]
    assert sorted(lines) == ["squaring 1", "squaring 2", "squaring 3"]


def test_an_interruption_terminates_the_processes():
    """The exception arrives, and the process that was still asleep is gone."""
    found = in_parallel(asleep, [0, 1], 2, lambda _line: None)
    assert next(found) == 0
    with pytest.raises(KeyboardInterrupt):
        found.throw(KeyboardInterrupt())
    assert multiprocessing.active_children() == []


def test_an_error_of_a_process_arrives():
    """The exception of a failed process is raised again, with its message."""
    with pytest.raises(ValueError, match="-1 is below zero"):
        list(in_parallel(squared, [-1], 1, lambda _line: None))
