"""One training in several processes or machines, as `torchrun` starts them; and several trainings beside each other."""

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
from torch import Tensor, distributed, nn

T = TypeVar("T")
Item = TypeVar("Item")
TELL_S: Final = 0.5
"""Between two looks at what processes have to tell."""


@dataclass(frozen=True, slots=True)
class World:
    """Which of how many processes this is.  Only the first one writes files and reports."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0


@contextmanager
def together() -> Iterator[World]:
    """Join the processes that `torchrun` started; alone without it."""
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
    """What the first process has, in all of them."""
    if world().size == 1:
        return value
    box: list[object] = [value]
    distributed.broadcast_object_list(box, src=0)
    return cast("T", box[0])


def summed(value: Tensor) -> Tensor:
    """The sum over all processes."""
    if world().size > 1:
        distributed.all_reduce(value)
    return value


def start_alike(module: nn.Module) -> None:
    """Give all processes the weights and buffers of the first one."""
    if world().size > 1:
        for value in module.state_dict().values():
            distributed.broadcast(value, src=0)


def share_buffers(module: nn.Module) -> None:
    """Give all processes the mean of their BatchNorm statistics: each has seen its own part of the batches."""
    if world().size == 1:
        return
    for buffer in module.buffers():
        if buffer.is_floating_point():
            distributed.all_reduce(buffer)
            buffer.div_(world().size)


# Beside each other --------------------------------------------------------------------------------------------------


def beside(
    work: Callable[[Item, Callable[[str], None]], T], items: Sequence[Item], jobs: int, told: Callable[[str], None]
) -> Iterator[T]:
    """Do the work of each item in one of `jobs` processes, which share the processor: results as they come.

    work: a function of a module, called with an item and what it can tell lines to; these come to `told`.  Whatever
    ends the iteration early, an error of one of them too, ends the processes.
    """
    context = multiprocessing.get_context("spawn")
    lines = context.SimpleQueue()
    threads = max(1, (os.cpu_count() or 1) // jobs)
    pool = ProcessPoolExecutor(min(jobs, len(items)), context, _begin, (lines, threads))
    try:
        left = {pool.submit(_do, work, item) for item in items}
        while left:
            done, left = wait(left, timeout=TELL_S, return_when=FIRST_COMPLETED)
            while not lines.empty():
                told(lines.get())
            for future in done:
                yield future.result()
    except BaseException:
        for process in pool._processes.values():  # noqa: SLF001  there is no other way to end work under way
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_lines: Any = None
"""In a process of `beside`: where its lines go."""


def _begin(lines: Any, threads: int) -> None:
    global _lines  # noqa: PLW0603  the pool has no other place for what belongs to a process
    _lines = lines
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears it too, and ends this one
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _do(work: Callable[[Item, Callable[[str], None]], T], item: Item) -> T:
    return work(item, _lines.put)
