"""Training by several processes, each with a device of its own: ``torchrun``.

Every process draws batches of its own. The gradients of a step are averaged over all of them, so
that the weights stay the same everywhere; or each makes some steps by itself, and then the weights
are averaged. The first process keeps time and writes the files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """The processes of a training, and which of them this one is.

    Attributes
    ----------
    rank, count : int
    local_rank : int
        Among those of this machine: the number of its GPU.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def device(self, kind: str) -> torch.device:
        """The device of this process; several share a CPU, never a GPU."""
        return torch.device(kind, self.local_rank) if kind == "cuda" else torch.device(kind)

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by its mean over the processes, none counting as zero."""
        if self.count == 1:
            return
        gradients = []
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            gradients.append(p.grad)
        self.average(gradients)

    def average(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        if self.count == 1:
            return
        together = torch.cat([t.detach().flatten() for t in tensors])
        dist.all_reduce(together)
        together /= self.count
        parts = together.split([t.numel() for t in tensors])
        with torch.no_grad():
            for tensor, mean in zip(tensors, parts, strict=True):
                tensor.copy_(mean.view_as(tensor))

    def time_of_first(self, seconds: float, device: torch.device) -> float:
        """What the clock of the first process says, so that all stop at the same step."""
        if self.count == 1:
            return seconds
        clock = torch.tensor([seconds], dtype=torch.float64, device=device)
        dist.broadcast(clock, src=0)
        return float(clock)

    def gathered(self, item: object) -> list:
        """One item of each process, in order of rank."""
        if self.count == 1:
            return [item]
        items: list = [None] * self.count
        dist.all_gather_object(items, item)
        return items


#: A training by one process.
ALONE = Processes()


def join_processes(kind: str) -> Processes:
    """Meet the processes that ``torchrun`` started; alone where it did not.

    Parameters
    ----------
    kind : str
        cpu or cuda.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return ALONE
    processes = Processes(int(os.environ["RANK"]), count, int(os.environ["LOCAL_RANK"]))
    if not dist.is_initialized():
        if kind == "cuda":
            torch.cuda.set_device(processes.local_rank)
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    return processes


def leave_processes() -> None:
    """End what `join_processes` began, all together; nothing where it found no others."""
    if dist.is_initialized():
        # a process that leaves while another still waits for it takes that one down
        dist.barrier()
        dist.destroy_process_group()
