"""Data parallelism under torchrun: this process's rank, and the values on which all processes must agree."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing torch takes seconds, and asking for the rank does not need it
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    """This process among those that train the run together; (0, 1, 0) without torchrun."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls) -> World:
        """From the variables that torchrun sets."""
        return cls(
            *(int(os.environ.get(name, one)) for name, one in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))
        )

    @property
    def main(self) -> bool:
        """Whether this process writes the run's folder."""
        return self.rank == 0

    @contextmanager
    def connected(self, device: torch.device):
        """Within the block the processes can communicate: through NCCL between GPUs, gloo between CPUs."""
        if self.size == 1:
            yield
            return
        import torch.distributed as dist

        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        try:
            yield
        finally:
            dist.destroy_process_group()

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(tensor)
        return tensor

    def agree(self, number: int, device: torch.device) -> int:
        """The largest `number` of any process."""
        if self.size == 1:
            return number
        import torch
        import torch.distributed as dist

        tensor = torch.tensor(number, device=device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return int(tensor.item())

    def barrier(self) -> None:
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()

    def share_buffers(self, model: nn.Module) -> None:
        """Copy the main process's buffers to all: BatchNorm's running averages differ after a step."""
        if self.size > 1:
            import torch.distributed as dist

            for buffer in model.buffers():
                dist.broadcast(buffer, 0)
