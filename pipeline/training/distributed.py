"""Data-parallel training in several processes, on one host or many: started by torchrun; gloo on CPUs, nccl on GPUs.

On several hosts the same command is started on each; models_dir and output_dir lie on a file system that all share.
Without torchrun everything here is what one process needs: rank 0 of 1.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from pipeline.console import log
from pipeline.models import torchvision_shim

T = TypeVar("T")


@contextmanager
def processes() -> Iterator[None]:
    """Join the processes that torchrun started; all but the first log and write nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, number, count = next(rendezvous("env://"))
    if os.environ.get("GROUP_WORLD_SIZE") == "1":
        # torchrun's store outlives a restart: without a prefix the addresses of the lost processes would be read again.
        # On several hosts, each of which counts its own restarts, TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 does the same.
        store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)  # type: ignore[attr-defined]
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=count)
    if not is_writer():
        log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Rank of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_writer() -> bool:
    """Whether this is the one process that writes files and log lines."""
    return rank() == 0


def restarted() -> bool:
    """Whether torchrun has restarted the processes after losing one."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def from_writer(work: Callable[[], T]) -> T:
    """Do the work in the writer only, while the others wait; returns its result (plain values) in all."""
    if world() == 1:
        return work()
    result = [work() if is_writer() else None]
    dist.broadcast_object_list(result, device=_device())
    return result[0]  # type: ignore[return-value]


def gathered(values: T) -> list[T]:
    """The values of all processes, in order of rank."""
    if world() == 1:
        return [values]
    everywhere: list[T] = [values] * world()
    dist.all_gather_object(everywhere, values)
    return everywhere


def synchronised(network: nn.Module) -> nn.Module:
    """The network with batch statistics over all processes, on GPUs; PyTorch has none on CPUs, where each has its own."""
    if world() == 1 or not torch.cuda.is_available():
        return network
    torchvision_shim.ensure()
    from timm.layers import convert_sync_batchnorm

    converted: nn.Module = convert_sync_batchnorm(network)
    return converted


def parallel(model: nn.Module) -> nn.Module:
    """The model that averages its gradients over all processes; wrap it again when other parameters learn."""
    if world() == 1:
        return model
    return DistributedDataParallel(model)


def same_statistics(model: nn.Module) -> None:
    """Copy the writer's batch statistics to all processes, so that the measured model is the stored one."""
    if world() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def factors(parts: Tensor) -> Tensor:
    """Of each number that this process's means are divided by (photos, or their weights): the factor of such a mean, so that
    the mean over all processes is that of the whole."""
    return parts * world() / total(parts.clone())


def total(values: Tensor) -> Tensor:
    """Sum over all processes, in place."""
    if world() > 1:
        dist.all_reduce(values)
    return values


def _device() -> torch.device | None:
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else None
