"""What was found out about models on this machine, remembered between runs.

An answer is a yes or no to a question, for this processor and this llama.cpp: one small file each, so that two agents
never write into each other's, under ``${XDG_CACHE_HOME:-~/.cache}/ncode-search/``. Where that cannot be read or
written, nothing is known, and the question is asked again next time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ncode_search.agent.ranking.llama_library import llama, llama_version


def cache_folder() -> Path:
    """The folder for all that may be deleted at any time. Raises RuntimeError where there is no home."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base and os.path.isabs(base) else Path.home() / ".cache") / "ncode-search"


def recall(question: Sequence[str]) -> bool | None:
    """The answer to `question`; None where it is not known."""
    try:
        answer = json.loads(_place(question).read_text())["answer"]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return None
    return answer if isinstance(answer, bool) else None


def remember(question: Sequence[str], answer: bool) -> None:
    """Write `answer`, whole or not at all. A cache that cannot be written is no error."""
    with contextlib.suppress(OSError, RuntimeError):
        place = _place(question)
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump({"question": question[0], "answer": answer}, file)
            os.replace(name, place)
        except OSError:
            os.unlink(name)
            raise


def _place(question: Sequence[str]) -> Path:
    built = llama().llama_print_system_info().decode(errors="replace")
    parts = (*question, _processor(), llama_version(), built)
    return cache_folder() / "answers" / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}.json"


def _processor() -> str:
    """Model and features of the processor: virtual machines give the same name to different ones."""
    wanted = ("model name", "flags", "Features", "CPU part")
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n")[0]
        return "\n".join(line for line in first.splitlines() if line.startswith(wanted))
    return f"{platform.machine()} {platform.processor()}"
