"""One training in several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainer.processes import World, from_first, summed, together

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What two gloo processes under torchrun left: (folder, result of each)."""
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
    """Both end with the same weights and statistics, though they started with different ones, and it has learnt."""
    _, (first, second) = results
    assert first["size"] == second["size"] == 2
    assert equal(first["whole"], second["whole"])
    right, of = first["right"][-1]
    assert of == 30
    assert right > 20


def test_only_the_first_process_writes_and_reports(results):
    """One checkpoint, no drafts, and epochs that are told once."""
    folder, (first, second) = results
    assert sorted(p.name for p in folder.iterdir()) == ["half.pt", "result-0.pt", "result-1.pt", "run.pt"]
    assert len(first["right"]) == 4
    assert second["right"] == []


def test_processes_go_on_from_a_checkpoint(results):
    """From the checkpoint after the second epoch both come to the same weights as without a break."""
    _, (first, second) = results
    assert equal(first["resumed"], first["whole"])
    assert equal(second["resumed"], first["whole"])


def test_one_process_is_a_world_of_its_own(monkeypatch):
    """Without torchrun nothing is joined, and values pass through."""
    monkeypatch.delenv("RANK", raising=False)
    with together() as world:
        assert world == World(0, 1)
        assert world.first
        assert from_first("value") == "value"
        assert float(summed(torch.tensor(2.0))) == 2.0
