"""One training in several processes (`torchrun`), and several trainings in parallel processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import torch

# Imported before there is a process group: defaults of its functions hold the group of the time of the import (torch
# 2.13). An optimizer imports it, too. A group that is held keeps its threads when it is destroyed, and they abort the
# process now and then while the interpreter exits.
import torch.distributed.nn
from torch import Tensor, distributed, nn

T = TypeVar("T")
Item = TypeVar("Item")
POLL_S: Final = 0.5
"""Interval at which lines from the processes are forwarded."""


@dataclass(frozen=True, slots=True)
class World:
    """Rank of this process and number of processes.  Only the first process writes files and reports."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0


@contextmanager
def join_processes() -> Iterator[World]:
    """Join the processes that `torchrun` started; without it, this process is alone."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield World()
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield world()
    finally:
        distributed.destroy_process_group()


def world() -> World:
    if not (distributed.is_available() and distributed.is_initialized()):
        return World()
    return World(distributed.get_rank(), distributed.get_world_size())


def from_first(value: T) -> T:
    """The value of the first process, in all processes."""
    if world().size == 1:
        return value
    values: list[object] = [value]
    distributed.broadcast_object_list(values, src=0)
    return cast("T", values[0])


def summed(value: Tensor) -> Tensor:
    """The sum over all processes."""
    if world().size > 1:
        distributed.all_reduce(value)
    return value


def broadcast_weights(module: nn.Module) -> None:
    """Copy the weights and buffers of the first process to all others."""
    if world().size > 1:
        for value in module.state_dict().values():
            distributed.broadcast(value, src=0)


def average_buffers(module: nn.Module) -> None:
    """Average the BatchNorm statistics over all processes: each process has seen only its part of the batches."""
    if world().size == 1:
        return
    for buffer in module.buffers():
        if buffer.is_floating_point():
            distributed.all_reduce(buffer)
            buffer.div_(world().size)


# Parallel trainings --------------------------------------------------------------------------------------------------


def in_parallel(
    work: Callable[[Item, Callable[[str], None]], T], items: Sequence[Item], jobs: int, report: Callable[[str], None]
) -> Iterator[T]:
    """Call `work` for each item, in up to `jobs` processes that share the cores; yields results in order of completion.

    work: a module-level function; its second argument takes lines of text, which are forwarded to `report`.  If an
    error or the caller ends the iteration early, the processes are terminated.
    """
    context = multiprocessing.get_context("spawn")
    lines = context.SimpleQueue()
    threads = max(1, (os.cpu_count() or 1) // jobs)
    pool = ProcessPoolExecutor(min(jobs, len(items)), context, _start, (lines, threads))
    try:
        left = {pool.submit(_call, work, item) for item in items}
        while left:
            done, left = wait(left, timeout=POLL_S, return_when=FIRST_COMPLETED)
            while not lines.empty():
                report(lines.get())
            for future in done:
                yield future.result()
    except BaseException:
        for process in pool._processes.values():  # noqa: SLF001  the only way to stop a running task
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_lines: Any = None
"""In a process of `in_parallel`: the queue for its lines."""


def _start(lines: Any, threads: int) -> None:
    global _lines  # noqa: PLW0603  the pool offers no other per-process state
    _lines = lines
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets SIGINT too, and terminates this process
    parent = multiprocessing.parent_process()
    assert parent is not None

    def exit_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()


def _call(work: Callable[[Item, Callable[[str], None]], T], item: Item) -> T:
    return work(item, _lines.put)
