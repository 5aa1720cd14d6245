"""Which device every worker slot is bound to, and how many CPU threads it gets."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """What one worker process may use."""

    name: str
    """As it is written into the history: ``cpu``, or ``cuda:2`` for the third GPU of the machine."""
    torch_name: str
    """The same inside the worker: a process sees one GPU only, as ``cuda:0``."""
    threads: int
    """CPU threads."""
    environment: dict[str, str]
    """What to set before the process starts."""


def assign(workers: int) -> list[Device]:
    """One device a worker slot: the machine's GPUs in turn, or the CPU where there is none."""
    gpus = list_gpus()
    threads = max(1, available_cores() // workers)
    return [_device(gpus[slot % len(gpus)] if gpus else None, threads) for slot in range(workers)]


def list_gpus() -> list[str]:
    """The GPUs that a worker may use, as CUDA names them: those of ``CUDA_VISIBLE_DEVICES``, else all that the driver
    lists.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return answer.stdout.split()


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _device(gpu: str | None, threads: int) -> Device:
    environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    environment["CUDA_VISIBLE_DEVICES"] = gpu or ""
    if gpu is None:
        return Device("cpu", "cpu", threads, environment)
    return Device(f"cuda:{gpu}", "cuda:0", threads, environment)
