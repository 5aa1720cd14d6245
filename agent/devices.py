"""Which device every worker slot is bound to, and how many CPU threads it gets.

GPUs are what the driver's ``nvidia-smi`` lists, as far as ``CUDA_VISIBLE_DEVICES`` lets them be seen; without one,
workers use the CPU. A worker process sees its own GPU only.

Numbers of GPUs are those of ``nvidia-smi``, in the order of the PCI bus. CUDA counts the fastest first unless it is
told otherwise, so every process that is bound to a device is told.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ncode_search.agent import cgroup
from ncode_search.agent.errors import InputError
from ncode_search.agent.settings import SearchSettings


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


@dataclass(frozen=True)
class Gpu:
    """A GPU of this machine."""

    number: str
    """Its number, or the name that ``CUDA_VISIBLE_DEVICES`` gives it."""
    memory: int | None
    """Bytes; None: the driver does not say."""

    @property
    def name(self) -> str:
        """As histories and search files have it."""
        return f"cuda:{self.number}"


def assign(wanted: SearchSettings) -> list[Device]:
    """The device of every worker slot that a search wants.

    Raises `InputError` where there is no such device, or not enough memory on it.
    """
    gpus = {gpu.name: gpu for gpu in list_gpus()}
    memory = {"cpu": cpu_memory(), **{name: gpu.memory for name, gpu in gpus.items()}}
    names = _named(wanted.devices, list(gpus))
    if wanted.devices == "auto":
        names = _large_enough(names, memory, wanted.memory_bytes)
    room = {name: _room(name, memory[name], wanted) for name in names}
    slots = [name for turn in range(max(room.values())) for name in names if turn < room[name]]
    if wanted.workers is not None:
        slots = _take(slots, wanted)
    threads = max(1, available_cores() // len(slots))
    return [_device(gpus.get(name), threads) for name in slots]


def first(wanted: SearchSettings) -> Device:
    """The first device that a search wants, with all CPU cores. Raises `InputError` as `assign` does."""
    return assign(dataclasses.replace(wanted, workers=1, workers_per_device=None))[0]


def take_one(wanted: SearchSettings) -> Device:
    """The same; this process is bound to it, as a worker is. To be called before torch is imported."""
    device = first(wanted)
    os.environ.update(device.environment)
    return device


def list_gpus() -> list[Gpu]:
    """The GPUs that a worker may use: those of ``CUDA_VISIBLE_DEVICES``, else all that the driver lists."""
    listed = _ask_driver()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [Gpu(number, memory) for number, _, memory in listed]
    memory_of = {name: memory for number, uuid, memory in listed for name in (number, uuid)}
    names = [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    return [Gpu(name, memory_of.get(name)) for name in names]


def available_cores() -> int:
    """CPU cores that this process may use, by its affinity and the limits of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, cgroup.core_limit() or cores)


def cpu_memory() -> int:
    """Bytes of memory of this machine, or of this container."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(memory, cgroup.memory_limit() or memory)


def gibibytes(count: int) -> str:
    """Bytes for a person."""
    size = count / 2**30
    return f"{size:.3g} GiB" if size < 999.5 else f"{size:,.0f} GiB"


def _ask_driver() -> list[tuple[str, str, int | None]]:
    """Number, UUID and memory of every GPU."""
    query = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.stdout.splitlines() if line.strip()]
    return [(number, uuid, int(memory) << 20 if memory.isdecimal() else None) for number, uuid, memory in rows]


def _named(devices: str | Sequence[str], gpus: list[str]) -> list[str]:
    if devices == "auto":
        return gpus or ["cpu"]
    names = [devices] if isinstance(devices, str) else list(dict.fromkeys(devices))
    for name in names:
        if name != "cpu" and name not in gpus:
            there = ", ".join(["cpu", *gpus])
            raise InputError(
                f"[search] devices: there is no {name}; this machine has {there} (`ncode doctor` lists them)"
            )
    return names


def _large_enough(names: list[str], memory: Mapping[str, int | None], need: int | None) -> list[str]:
    """Those that a trial fits on, as far as is known; all where it fits on none, which is refused then."""
    return [name for name in names if (has := memory[name]) is None or has >= (need or 0)] or names


def _room(name: str, memory: int | None, wanted: SearchSettings) -> int:
    """How many workers a device gets, at most."""
    count = wanted.workers_per_device or (1 if wanted.workers is None else wanted.workers)
    need = wanted.memory_bytes
    if need is None or memory is None:
        return count
    fit = memory // need
    if fit < 1 or (wanted.workers_per_device is not None and wanted.workers_per_device > fit):
        many = f"only {fit} at a time" if fit else "none"
        raise InputError(
            f"[search] memory: of trials of {gibibytes(need)}, {many} can be on {name}, which has {gibibytes(memory)}; "
            "lower it, or take other devices or fewer workers_per_device"
        )
    if wanted.workers_per_device is None and wanted.workers is None:
        return fit if name != "cpu" else min(fit, available_cores())
    return min(fit, count)


def _take(slots: list[str], wanted: SearchSettings) -> list[str]:
    assert wanted.workers is not None
    if len(slots) < wanted.workers:
        raise InputError(
            f"[search] workers is {wanted.workers}, but {len(slots)} fit on the devices; lower it, or memory"
        )
    return slots[: wanted.workers]


def _device(gpu: Gpu | None, threads: int) -> Device:
    environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    environment |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": gpu.number if gpu else ""}
    if gpu is None:
        return Device("cpu", "cpu", threads, environment)
    return Device(gpu.name, "cuda:0", threads, environment)
