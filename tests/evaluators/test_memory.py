"""Which errors say that memory is used up, and the peak of a GPU that nothing has used yet."""

import pytest
import torch

from ncode_search.evaluators.memory import PeakMemory, is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_whatever_of_the_libraries_got_no_memory(error: Exception) -> None:
    assert is_out_of_memory(error)
    outer = ValueError("the trainer failed")
    outer.__cause__ = error
    assert is_out_of_memory(outer)


def test_other_errors_do_not() -> None:
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
    assert not is_out_of_memory(ValueError("CUDA error: out of memory"))


class Allocator:
    """What torch's does on a GPU: its peak cannot be reset before CUDA is initialised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_ready, self.resets = False, 0
        monkeypatch.setattr(torch._C, "_cuda_resetPeakMemoryStats", self._reset, raising=False)
        monkeypatch.setattr(
            torch._C, "_cuda_memoryStats", lambda device: {"allocated_bytes.all.peak": 7}, raising=False
        )
        for module in (torch.cuda, torch.cuda.memory):
            monkeypatch.setattr(module, "is_initialized", lambda: self.is_ready)

    def _reset(self, device: int) -> None:
        if not self.is_ready:
            raise RuntimeError(f"Invalid device argument {device}: did you call init?")
        self.resets += 1


def test_the_peak_of_a_gpu_that_was_not_used_before_is_that_of_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    allocator = Allocator(monkeypatch)
    memory = PeakMemory("cuda:0")
    assert (memory.bytes, allocator.resets) == (0, 0)
    allocator.is_ready = True
    assert memory.bytes == 7
    assert PeakMemory("cuda:0").bytes == 7
    assert allocator.resets == 1
