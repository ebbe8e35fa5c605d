"""Memory: keep freed memory in the process, and name the settings to lower when it runs out.

A training step frees and takes the same big blocks again and again. glibc gives such blocks back to the system at once,
and each page taken back costs a fault: up to half of the time of a small network's training on a CPU.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.errors import ModelError
from pipeline.sections.training import Training

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc
# PyTorch's messages, all in RuntimeErrors: of the network; of loader processes that the system killed
NETWORK = ("can't allocate memory", "not enough memory", "STATUS_ALLOC_FAILED")
WORKERS = ("shared memory(shm)", "DataLoader worker (pid")


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for the rest of the process; returns whether there is a glibc that does."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_MMAP_MAX, 0)) and bool(libc.mallopt(M_TRIM_THRESHOLD, -1))


@contextmanager
def out_of_memory(settings: Training) -> Iterator[None]:
    """Convert the various out-of-memory errors into errors that name the settings to change."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        batches = f"batches of {settings.batch_size} photos of {settings.recipe.size} px"
        if any(words in str(error) for words in WORKERS):
            raise ModelError(
                f"a process that loads photos had no memory or was killed ({str(error).splitlines()[0]}); lower workers "
                f"({settings.workers}; 0: none) or batch_size: each holds two {batches}"
            ) from error
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and not any(w in str(error) for w in NETWORK):
            raise
        raise ModelError(
            f"out of memory with {batches}; lower batch_size (optimizer.accumulate makes up for it) or recipe.size, or "
            "take precision: bf16"
        ) from error
