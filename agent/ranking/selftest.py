"""Does this model run on this machine? Asked in a child process, since the answer may be a crash.

llama.cpp repacks quantized weights for the processor by default, and on some (seen with AMX) the repacked ones crash
the process in the first decode call. So before a model is first used here, a child scores a few tokens with it; if
the child dies, another one tries without the repacking (`use_extra_bufts`). The answer is remembered for this file,
processor and llama.cpp, under ``${XDG_CACHE_HOME:-~/.cache}/ncode-search/``; where that cannot be written, the
question is asked again next time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.llama_library import last_words, llama, llama_version
from ncode_search.agent.ranking.llama_session import LlamaSession, SessionSettings

LIMIT = 600.0
"""Seconds that a child may take: large models load slowly from cold disks."""
_REFUSED = 3
"""Exit status of a child that refuses the model in words."""

Command = Callable[[Path, SessionSettings], Sequence[str]]


@dataclass(frozen=True)
class _Outcome:
    """How a child ended."""

    died: str | None = None
    """What killed it; None if nothing did."""
    refused: str | None = None
    """The reason it gave; None if the model works."""


def child_command(path: Path, settings: SessionSettings) -> Sequence[str]:
    """The command that tries a model. The child finds modules where this process does, not in its folder."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main(sys.argv[1:])"
    numbers = (settings.threads or 0, settings.gpu_layers, int(settings.extra_buffers))
    return [sys.executable, "-c", code, str(path), *map(str, numbers)]


def proven_settings(
    path: Path, digest: str, settings: SessionSettings, *, command: Command = child_command
) -> SessionSettings:
    """`settings` as they work for this model on this machine, from memory or from a test.

    `digest` is the file's SHA-256. Raises `InputError` where the model cannot be used in either way.
    """
    place = _answer_file(digest, settings)
    known = _recall(place)
    if known is None:
        known = _find_out(path, settings, command)
        _remember(place, known)
    return replace(settings, extra_buffers=known)


def remembered(digest: str, settings: SessionSettings) -> bool | None:
    """The remembered answer: whether weights may be repacked; None if the model was never tested here."""
    return _recall(_answer_file(digest, settings))


def cache_folder() -> Path:
    """Where answers are kept. Raises RuntimeError where there is no home."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base and os.path.isabs(base) else Path.home() / ".cache") / "ncode-search"


def main(arguments: Sequence[str]) -> None:
    """The child: load the model, score a few tokens; exit status 0, or 3 with the reason on standard output."""
    path, (threads, gpu_layers, extra) = Path(arguments[0]), map(int, arguments[1:])
    _leave_no_core_dump()
    settings = SessionSettings(context=512, threads=threads or None, gpu_layers=gpu_layers, extra_buffers=bool(extra))
    try:
        _try(path, settings)
    except (InputError, RuntimeError) as error:
        print(str(error).replace("\n", " "))
        sys.exit(_REFUSED)


def _try(path: Path, settings: SessionSettings) -> None:
    """Exercise what a decision does: a long decode call, a short one, and branches."""
    with LlamaSession(path, settings) as session:
        prompt = session.tokenize_prompt("0123|1.0,3210|0.5," * 10)[: session.context - 8]
        branches = [session.tokenize_after(code, ",")[:8] for code in ("0123", "0213", "3120")]
        if not prompt or not all(branches):
            raise InputError(f"model {path} has a tokenizer without digits: give another .gguf file")
        if not np.isfinite(session.log_likelihoods(prompt, branches)).all():
            raise RuntimeError(f"model {path} answers with numbers that are not finite ({last_words()})")


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
    environment = os.environ | {"GGML_NO_BACKTRACE": "1"}  # else a dying llama.cpp calls a debugger, where there is one
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT,
            text=True,
            errors="replace",
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return _Outcome(died=f"no answer within {LIMIT:.0f} s")
    if done.returncode == 0:
        return _Outcome()
    if done.returncode == _REFUSED and done.stdout.strip():
        return _Outcome(refused=done.stdout.strip().splitlines()[-1])
    return _Outcome(died=_cause(done.returncode, done.stderr))


def _cause(status: int, stderr: str) -> str:
    """What killed a child: the signal, and the last thing that it wrote."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    asserted = [line for line in lines if "GGML_ASSERT" in line]
    words = (asserted or lines)[-1:]
    return ": ".join([_status(status), *words])


def _status(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:  # a real-time signal has no name
        return f"signal {-status}"


def _answer_file(digest: str, settings: SessionSettings) -> Path | None:
    """One small file an answer, so that two agents never write the same bytes into each other; None without a home."""
    built = llama().llama_print_system_info().decode(errors="replace")
    parts = (digest, _processor(), llama_version(), built, "gpu" if settings.gpu_layers else "cpu")
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    try:
        return cache_folder() / "selftest" / f"{key}.json"
    except RuntimeError:
        return None


def _processor() -> str:
    """Model and features of the processor: virtual machines give the same name to different ones."""
    wanted = ("model name", "flags", "Features", "CPU part")
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n")[0]
        return "\n".join(line for line in first.splitlines() if line.startswith(wanted))
    return f"{platform.machine()} {platform.processor()}"


def _recall(place: Path | None) -> bool | None:
    if place is None:
        return None
    try:
        answer = json.loads(place.read_text())["extra_buffers"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return answer if isinstance(answer, bool) else None


def _remember(place: Path | None, extra: bool) -> None:
    """Write the answer, whole or not at all. A cache that cannot be written is no error."""
    if place is None:
        return
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump({"extra_buffers": extra}, file)
            os.replace(name, place)
        except OSError:
            os.unlink(name)
            raise


def _leave_no_core_dump() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
