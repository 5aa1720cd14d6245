"""Rankers by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.base import Ranker
from ncode_search.agent.ranking.baselines import EvolutionRanker, RandomRanker
from ncode_search.agent.ranking.prompt import MOST_TRIALS

if TYPE_CHECKING:
    from ncode_search.agent.ranking.llama import CodeText

RANKERS = ("llama", "evolution", "random")
"""Names that `make_ranker` knows."""


def make_ranker(
    kind: str,
    space: CodeText,
    *,
    model: str | None = None,
    folder: Path | None = None,
    history: int = MOST_TRIALS,
    threads: int | None = None,
    gpu_layers: int = 0,
) -> Ranker:
    """The ranker `kind`, not loaded yet. The keywords matter to ``llama`` only.

    `model`: a .gguf file (relative paths from `folder`) or ``smollm2``; `history`: most past trials in the prompt;
    `threads`: CPU threads, None for the physical cores; `gpu_layers`: layers on the GPU, negative for all. Raises
    `InputError` for an unknown kind.
    """
    if kind == "random":
        return RandomRanker()
    if kind == "evolution":
        return EvolutionRanker()
    if kind != "llama":
        raise InputError(f"there is no ranker {kind!r}: choose one of {', '.join(RANKERS)}")
    # Imported late: a search without a model needs neither llama.cpp nor jinja2.
    from ncode_search.agent.ranking.llama import LlamaRanker
    from ncode_search.agent.ranking.llama_session import SessionSettings

    settings = SessionSettings(threads=threads, gpu_layers=gpu_layers)
    return LlamaRanker(space, model=model, folder=folder, history=history, settings=settings)
