"""What ``ncode doctor`` says about the language model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ncode_search.agent.errors import InputError

Line = tuple[str, str, bool]
"""What is looked at, what was found, and whether that is good."""


def llama_report(model: str | None = None, folder: Path | None = None) -> Iterator[Line]:
    """Facts about llama.cpp and `model` (None for the default one), in the order to print.

    Raises nothing: a fault is a fact. Tries the model in a child process if that was not done on this machine before.
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
    yield from _model_lines(model, folder)


def _model_lines(model: str | None, folder: Path | None) -> Iterator[Line]:
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
