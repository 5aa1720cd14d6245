"""Does this embedded ranker run on this machine? Asked in a child process once a file, as `selftest` asks it of
language models: a header may be whole, and still ask llama.cpp for what it dies of.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.answers import recall, remember
from ncode_search.agent.ranking.child import REFUSED, python_child, run_child
from ncode_search.agent.ranking.embedded_file import read_embedded
from ncode_search.agent.ranking.vector_session import VectorSession, VectorSettings

LIMIT = 100.0
"""Seconds that a child may take."""


def check_runs(path: Path, digest: str, settings: VectorSettings) -> None:
    """Raises `InputError` unless the model answers, or has done so before. `digest` is the file's SHA-256."""
    question = ("vectors", digest, "gpu" if settings.gpu_layers else "cpu")
    if recall(question):
        return
    child = run_child(python_child(__name__, path, settings.threads, settings.gpu_layers), LIMIT)
    if child.cause is not None:
        said = child.said if child.status == REFUSED else ""
        raise InputError(said or f"model {path} crashes llama.cpp on this machine ({child.cause}): export it again")
    remember(question, True)


def main(arguments: Sequence[str]) -> None:
    """The child: a decision of one trial and one candidate; exit status 0, or 3 with the reason on standard output."""
    path, (threads, gpu_layers) = Path(arguments[0]), map(int, arguments[1:])
    try:
        _try(path, replace(VectorSettings(), threads=threads, gpu_layers=gpu_layers))
    except (InputError, RuntimeError) as error:
        print(str(error).replace("\n", " "))
        sys.exit(REFUSED)


def _try(path: Path, settings: VectorSettings) -> None:
    file = read_embedded(path)
    with VectorSession(path, settings) as session:
        if session.width != file.width:
            raise InputError(
                f"model {path} takes vectors of {session.width} numbers and makes ones of {file.width}: export it again"
            )
        vectors = np.zeros((1, file.width), np.float32)
        outputs = session.outputs(vectors, vectors).shape[1]
        if outputs < len(file.centres):
            raise InputError(f"model {path} has {outputs} outputs for {len(file.centres)} bins: export it again")
