"""``ncode doctor``: what this machine has, and whether the packaged ranker runs on it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from ncode_search import __version__, _core
from ncode_search.agent.devices import available_cores, gibibytes, list_gpus
from ncode_search.agent.ranking import llama_report


def examine() -> Iterator[tuple[str, bool]]:
    """Lines for a person, each with whether what it says is good."""
    yield f"ncode-search   {__version__}, Python {sys.version.split()[0]}, {platform.platform()}", True
    yield f"core           {_core.BUILD}", True
    gpus = list_gpus()
    yield f"CPU cores      {available_cores()}", True
    said = ", ".join(gpu.name + (f" ({gibibytes(gpu.memory)})" if gpu.memory else "") for gpu in gpus)
    yield f"GPUs           {said or 'none; workers use the CPU'}", True
    for name, text, good in llama_report():
        yield f"{name:<14} {text}", good
    if gpus and find_spec("torch") is not None:
        # Only a remark: not every evaluator needs it.
        yield f"PyTorch        {_torch_line()}", True


def _torch_line() -> str:
    try:
        from ncode_search.evaluators.torch_state import why_unusable
    except Exception as error:  # a missing or broken shared library can raise anything
        return f"torch cannot be imported ({' '.join(str(error).split())}); install it again"
    return why_unusable("cuda") or "computes on the GPU"
