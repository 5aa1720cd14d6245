"""What a trial changes in torch's global state, and what is put back after it."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from ncode_search.evaluators.memory import is_out_of_memory


@contextmanager
def trial_state(seed: int, device: str, threads: int) -> Iterator[None]:
    """Seeds, thread count and determinism for one trial; afterwards the former state, and the memory is free again.

    Keep the trial's tensors in functions called inside the block: what the calling frame holds cannot be freed here.
    """
    former_threads, former_mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    on_gpu = torch.device(device).type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        # Not on a GPU: some of its kernels have no deterministic version and would fail the trial.
        torch.set_deterministic_debug_mode(former_mode if on_gpu else "error")
        try:
            yield
        except BaseException as error:
            # The traceback holds the frames and they hold the network: an out-of-memory error would outlive its trial.
            traceback.clear_frames(error.__traceback__)
            raise
        finally:
            torch.set_deterministic_debug_mode(former_mode)
            torch.set_num_threads(former_threads)
            _free_memory(on_gpu)


def why_unusable(device: str) -> str | None:
    """Why torch cannot compute on a GPU, in one line with the mend; None: it can, or lacks only memory just now."""
    try:
        float(torch.ones(1, device=device) + 1)  # computes: a build may have no code for a GPU that it finds
    except Exception as error:  # of whatever kind: torch raises others for a build without CUDA than for a driver
        if is_out_of_memory(error):
            return None
        reason = " ".join(str(error).split())
        return (
            f"torch cannot use the GPU ({reason}); install a build of torch for its driver, or set [search] devices = "
            '"cpu"'
        )
    return None


def import_compiler() -> None:
    """The first optimizer of a process imports torch's compiler: two seconds that are no trial's own."""
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])


def get_random_state(device: str) -> dict[str, torch.Tensor]:
    """The states of torch's generators that a training on `device` draws from."""
    states = {"cpu": torch.get_rng_state()}
    if torch.device(device).type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(device: str, states: Mapping[str, torch.Tensor]) -> None:
    """Put back what `get_random_state` gave, as far as it is there: a training may go on on another device."""
    torch.set_rng_state(states["cpu"])
    if torch.device(device).type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def _free_memory(on_gpu: bool) -> None:
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
