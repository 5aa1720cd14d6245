"""Memory of an evaluation, at its peak and after it: of the device on GPUs, of the process on the CPU."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from pathlib import Path
from typing import Any

_SIGNS = (
    "DefaultCPUAllocator: ",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What plain RuntimeErrors of torch's say where its allocator, the driver or one of its libraries got no memory."""


class PeakMemory:
    """Measures from its making on, in the process that evaluates.

    On a GPU: the most that torch had allocated there. On the CPU: the most that was resident of the process, libraries
    and data included. Where the system does not let the peak be reset (it is not Linux, or a container forbids it),
    that is the peak since the process began.
    """

    def __init__(self, device: str) -> None:
        self._gpu = device if device.startswith("cuda") else None
        if self._gpu is None:
            _reset_resident_peak()
        elif "torch" in sys.modules and _cuda().is_initialized():
            # Else nothing was allocated there yet, and torch's allocator refuses to be reset.
            _cuda().reset_peak_memory_stats(self._gpu)

    @property
    def bytes(self) -> int:
        """The peak so far."""
        if self._gpu is None:
            return _resident_peak()
        return int(_cuda().max_memory_allocated(self._gpu)) if "torch" in sys.modules else 0


def held_memory(device: str) -> int:
    """Bytes that are in use now, after everything that nobody needs is gone: on a GPU torch's, else the process's."""
    gc.collect()
    if device != "cpu":
        import torch

        return torch.cuda.memory_allocated(device)
    _give_back_free_memory()
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # not Linux: what is left can still be counted, if it is torch's
        return _tensor_memory()
    return pages * 4096


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the device or of the process, is used up, or came from one that does."""
    if isinstance(error, MemoryError) or _is_of_torch(error):
        return True
    cause = error.__cause__ or error.__context__
    return cause is not None and is_out_of_memory(cause)


def _is_of_torch(error: BaseException) -> bool:
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)
    )


def _cuda() -> Any:
    import torch

    return torch.cuda


def _reset_resident_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _resident_peak() -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _give_back_free_memory() -> None:
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; musl has none
        if trim is not None:
            trim(0)


def _tensor_memory() -> int:
    torch = sys.modules.get("torch")
    if torch is None:
        return 0
    return sum(one.nbytes for one in gc.get_objects() if isinstance(one, torch.Tensor))
