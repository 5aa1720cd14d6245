"""What ``ncode doctor`` says about llama.cpp and the ranker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ncode_search.agent.errors import InputError
from ncode_search.agent.observations import Observations

Line = tuple[str, str, bool]
"""What is looked at, what was found, and whether that is good."""


def llama_report(model: str | None = None, folder: Path | None = None) -> Iterator[Line]:
    """Facts about llama.cpp and `model` (None for the packaged ranker), in the order to print.

    Raises nothing: a fault is a fact. A language model is tried in a child process, if that was not done here before.
    """
    try:
        from ncode_search.agent.ranking.llama_library import llama, llama_version, physical_cores

        api = llama()
    except Exception as error:  # a missing or broken shared library can raise anything
        yield "llama.cpp", f"llama-cpp-python cannot be imported ({error}); install it again", False
        return
    build = " ".join(api.llama_print_system_info().decode(errors="replace").split())
    offload = "GPU offload" if api.llama_supports_gpu_offload() else "no GPU offload in this build"
    yield "llama.cpp", f"llama-cpp-python {llama_version()}, {offload}, {physical_cores()} physical cores", True
    yield "llama.cpp has", build, True
    yield from _packaged_lines() if model is None else _model_lines(model, folder)


def _packaged_lines() -> Iterator[Line]:
    """Makes one decision."""
    from ncode_search.agent.ranking.embedded import EmbeddedRanker
    from ncode_search.agent.space import SearchSpace

    space = SearchSpace({str(position): list(range(4)) for position in range(8)})
    codes = space.core.sample(328, 0)
    none = codes[:0]
    known = Observations(codes[:200], codes[:200].sum(axis=1).astype(np.float64), none, none)
    ranker = EmbeddedRanker(space)
    try:
        ranker.load()
        ranker.score(known, codes[200:], np.random.default_rng(0))  # warms up
        begun = time.perf_counter()
        ranker.score(known, codes[200:], np.random.default_rng(0))
        seconds = time.perf_counter() - begun
    except (InputError, OSError, RuntimeError) as error:
        yield "ranker", str(error), False
        return
    finally:
        ranker.close()
    yield "ranker", f"{ranker.info.model}, {1e3 * seconds:.0f} ms a decision (200 trials, 128 candidates)", True


def _model_lines(model: str, folder: Path | None) -> Iterator[Line]:
    from ncode_search.agent.ranking.gguf_file import check_model, resolve_model, sha256
    from ncode_search.agent.ranking.llama_session import SessionSettings
    from ncode_search.agent.ranking.selftest import proven_settings

    try:
        path = resolve_model(model, folder)
        check_model(path)
        extra = proven_settings(path, sha256(path), SessionSettings()).extra_buffers
    except (InputError, OSError) as error:
        yield "model", str(error), False
        return
    yield "model", str(path), True
    yield "model test", "passed" if extra else "passed without weight repacking, which crashes here", True
