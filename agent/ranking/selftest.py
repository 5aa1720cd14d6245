"""Does this model run on this machine? Asked in a child process, since the answer may be a crash.

llama.cpp repacks quantized weights for the processor by default, and on some (seen with AMX) the repacked ones crash
the process in the first decode call. So before a model is first used here, a child scores a few tokens with it; if
the child dies, another one tries without the repacking (`use_extra_bufts`). The answer is remembered for this file,
processor and llama.cpp, under ``${XDG_CACHE_HOME:-~/.cache}/ncode-search/``; where that cannot be written, the
question is asked again next time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.answers import recall, remember
from ncode_search.agent.ranking.child import REFUSED, python_child, run_child
from ncode_search.agent.ranking.llama_library import last_words
from ncode_search.agent.ranking.llama_session import LlamaSession, SessionSettings

LIMIT = 600.0
"""Seconds that a child may take: large models load slowly from cold disks."""
Command = Callable[[Path, SessionSettings], Sequence[str]]


@dataclass(frozen=True)
class _Outcome:
    """How a child ended."""

    died: str | None = None
    """What killed it; None if nothing did."""
    refused: str | None = None
    """The reason it gave; None if the model works."""


def child_command(path: Path, settings: SessionSettings) -> Sequence[str]:
    """The command that tries a model. See `child.python_child`."""
    return python_child(__name__, path, settings.threads or 0, settings.gpu_layers, int(settings.extra_buffers))


def proven_settings(
    path: Path, digest: str, settings: SessionSettings, *, command: Command = child_command
) -> SessionSettings:
    """`settings` as they work for this model on this machine, from memory or from a test.

    `digest` is the file's SHA-256. Raises `InputError` where the model cannot be used in either way.
    """
    question = _question(digest, settings)
    known = recall(question)
    if known is None:
        known = _find_out(path, settings, command)
        remember(question, known)
    return replace(settings, extra_buffers=known)


def remembered(digest: str, settings: SessionSettings) -> bool | None:
    """The remembered answer: whether weights may be repacked; None if the model was never tested here."""
    return recall(_question(digest, settings))


def main(arguments: Sequence[str]) -> None:
    """The child: load the model, score a few tokens; exit status 0, or 3 with the reason on standard output."""
    path, (threads, gpu_layers, extra) = Path(arguments[0]), map(int, arguments[1:])
    settings = SessionSettings(context=512, threads=threads or None, gpu_layers=gpu_layers, extra_buffers=bool(extra))
    try:
        _try(path, settings)
    except (InputError, RuntimeError) as error:
        print(str(error).replace("\n", " "))
        sys.exit(REFUSED)


def _try(path: Path, settings: SessionSettings) -> None:
    """Exercise what a decision does: a long decode call, a short one, and branches."""
    with LlamaSession(path, settings) as session:
        prompt = session.tokenize_prompt("0123|1.0,3210|0.5," * 10)[: session.context - 8]
        branches = [session.tokenize_after(code, ",")[:8] for code in ("0123", "0213", "3120")]
        if not prompt or not all(branches):
            raise InputError(f"model {path} has a tokenizer without digits: give another .gguf file")
        if not np.isfinite(session.log_likelihoods(prompt, branches)).all():
            raise RuntimeError(f"model {path} answers with numbers that are not finite ({last_words()})")


def _question(digest: str, settings: SessionSettings) -> tuple[str, ...]:
    return ("extra_buffers", digest, "gpu" if settings.gpu_layers else "cpu")


def _find_out(path: Path, settings: SessionSettings, command: Command) -> bool:
    for extra in (True, False):
        outcome = _run(command(path, replace(settings, extra_buffers=extra)))
        if outcome.refused is not None:
            raise InputError(outcome.refused)
        if outcome.died is None:
            return extra
    raise InputError(
        f"model {path} crashes llama.cpp on this machine, with and without weight repacking ({outcome.died}): "
        "give an F16 or F32 file, or reinstall llama-cpp-python with CMAKE_ARGS=-DGGML_NATIVE=OFF"
    )


def _run(command: Sequence[str]) -> _Outcome:
    child = run_child(command, LIMIT)
    if child.cause is None:
        return _Outcome()
    if child.status == REFUSED and child.said:
        return _Outcome(refused=child.said)
    return _Outcome(died=child.cause)
