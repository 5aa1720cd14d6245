"""A copy of a small quantized model with 16-bit weights, where that one decodes faster.

llama.cpp has fast matrix kernels for some quantized types on some processors, and slow ones for the rest: SmolLM2 as
Q4_1 on a processor with AVX2 decodes 130 tokens a second and core, and 250 as F16, the same weights unpacked. Only
memory is saved by the small file, and a small model needs no saving. So where a child process measures that it pays,
the copy is kept under ``~/.cache/ncode-search/f16/`` (270 MB for SmolLM2) and used. Decisions still name the original
and its digest.

CPU time is compared and not the clock, so that a busy machine comes to the same answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.answers import cache_folder, recall, remember
from ncode_search.agent.ranking.child import python_child, run_child
from ncode_search.agent.ranking.gguf_file import check_model
from ncode_search.agent.ranking.llama_library import llama
from ncode_search.agent.ranking.llama_session import LlamaSession, SessionSettings

LEAST_WEIGHTS, MOST_WEIGHTS = 10_000_000, 500_000_000
"""Models below are fast anyway, models above make a file of more than a gigabyte."""
GAIN = 1.3
"""How many times as fast the copy must be."""
LIMIT = 300.0
"""Seconds for making and measuring the copy."""
_MOSTLY_F16 = 1


def faster_file(path: Path, digest: str, settings: SessionSettings) -> Path:
    """The file to load in place of `path`: the 16-bit copy, made if need be, or `path` itself."""
    if not _is_candidate(path, settings):
        return path
    with contextlib.suppress(OSError, RuntimeError, InputError):
        copy = cache_folder() / "f16" / f"{digest}.gguf"
        question = ("f16", digest)
        pays = recall(question)
        if pays is None:
            pays = _find_out(path, copy, settings)
            remember(question, pays)
        if pays:
            return _present(path, copy)
    return path


def write_copy(path: Path, copy: Path) -> None:
    """Write `path` with 16-bit weights to `copy`, whole or not at all. Raises OSError or RuntimeError."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=copy.parent, prefix=".new-")
    os.close(handle)
    try:
        params = llama().llama_model_quantize_default_params()
        params.ftype, params.allow_requantize, params.pure = _MOSTLY_F16, True, True
        if llama().llama_model_quantize(os.fsencode(path), os.fsencode(name), ctypes.byref(params)) != 0:
            raise RuntimeError(f"llama.cpp cannot unpack {path}")
        os.replace(name, copy)
    except BaseException:
        os.unlink(name)
        raise


def main(arguments: Sequence[str]) -> None:
    """The child: make the copy and print how many times as fast as the original it is."""
    path, copy = map(Path, arguments[:2])
    settings = SessionSettings(context=512, threads=1, extra_buffers=bool(int(arguments[2])))
    try:
        write_copy(path, copy)
        print(_cpu_seconds(path, settings) / _cpu_seconds(copy, settings))
    except (InputError, OSError, RuntimeError) as error:
        sys.exit(str(error))


def _is_candidate(path: Path, settings: SessionSettings) -> bool:
    header = check_model(path)
    return settings.gpu_layers == 0 and header.quantized and LEAST_WEIGHTS <= header.weights <= MOST_WEIGHTS


def _find_out(path: Path, copy: Path, settings: SessionSettings) -> bool:
    """Whether the copy pays; the child dies where anything is wrong with it, and then it does not."""
    child = run_child(python_child(__name__, path, copy, int(settings.extra_buffers)), LIMIT)
    try:
        pays = child.cause is None and float(child.said) >= GAIN
    except ValueError:
        pays = False
    if not pays:
        copy.unlink(missing_ok=True)
    return pays


def _present(path: Path, copy: Path) -> Path:
    """The copy, made again if somebody deleted or damaged it."""
    try:
        check_model(copy)
    except InputError:
        write_copy(path, copy)
    return copy


def _cpu_seconds(path: Path, settings: SessionSettings) -> float:
    """CPU time of two decode calls, the better of two goes."""
    with LlamaSession(path, settings) as session:
        prompt = session.tokenize_prompt("0123|0.5," * 60)[: 2 * settings.chunk]
        times = []
        for first in (0, 1):
            begun = time.process_time()
            session.log_likelihoods(prompt[first:], [prompt[:1]])  # a different first token: nothing can be kept
            times.append(time.process_time() - begun)
    return min(times)
