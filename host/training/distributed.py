# SPDX-License-Identifier: Apache-2.0
"""Training in several processes that torchrun has started; one process is a group of one."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nonzero.errors import UserError

__all__ = ["ALONE", "Group", "process_group"]

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Group:
    """This process among those that train together.

    Attributes
    ----------
    rank, size : int
        Which process this is, from 0, and how many there are.
    device : torch.device
        Device that this process computes on: with several processes its GPU, if there is one; else the processor.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and talks to the user."""
        return self.rank == 0

    @property
    def part(self) -> slice:
        """The slice of every batch that this process takes."""
        return slice(self.rank, None, self.size)

    def forward(self, model: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        """The module ``model`` with gradients that are averages over the group."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model, device_ids=[self.device] if self.device.type == "cuda" else None)

    def sum(self, value: float) -> float:
        """The sum of ``value`` over the group."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return float(total)

    def wait(self) -> None:
        """Returns when the whole group is here."""
        if self.size > 1:
            torch.distributed.barrier(device_ids=[self.device.index] if self.device.type == "cuda" else None)


ALONE = Group()


def _number(name: str, default: int | None = None) -> int:
    """A whole number, at least 0, of torchrun's environment; raises `UserError`."""
    text = os.environ.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        raise UserError(_lacking(name))
    return int(text)


def _lacking(name: str) -> str:
    return (f"the environment has WORLD_SIZE={os.environ.get('WORLD_SIZE', '')}, but no usable {name}; start with "
            "torchrun, or unset WORLD_SIZE")


@contextmanager
def process_group() -> Iterator[Group]:
    """The group that torchrun's environment names: by gloo on processors, by nccl where there are GPUs.

    A process of several ends with the context, without Python's and torch's tearing down: there the threads of the
    group abort it now and then ("terminate called without an active exception"), though its work is done.

    Raises
    ------
    UserError
        For more processes on this machine than it has GPUs, if it has any; for half an environment.
    """
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        yield ALONE
        return
    rank, local, gpus = _number("RANK"), _number("LOCAL_RANK"), torch.cuda.device_count()
    if gpus and local >= gpus:
        raise UserError(f"--nproc-per-node of torchrun must be at most {gpus}, the GPUs of this machine, not "
                        f"{_number('LOCAL_WORLD_SIZE', local + 1)}; give fewer, or hide the GPUs with "
                        "CUDA_VISIBLE_DEVICES=")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise UserError(_lacking(name))
    device = torch.device("cuda", local) if gpus else CPU
    if gpus:
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if gpus else "gloo")
    try:
        yield Group(rank, size, device)
    except BaseException:
        torch.distributed.destroy_process_group()
        raise
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
