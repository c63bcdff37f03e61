"""One training in several processes or machines, as `torchrun` starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, distributed, nn

T = TypeVar("T")


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
