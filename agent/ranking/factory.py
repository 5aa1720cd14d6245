"""Rankers by name."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.address import KEY_VARIABLE, is_url
from ncode_search.agent.ranking.awaited import AwaitedRanker
from ncode_search.agent.ranking.base import ChoiceSpace, Ranker
from ncode_search.agent.ranking.baselines import EvolutionRanker, RandomRanker
from ncode_search.agent.ranking.prompt import MOST_TRIALS, SHUFFLES
from ncode_search.agent.settings import RankerSettings

RANKERS = ("embedded", "llama", "evolution", "random")
"""Names that `make_ranker` knows."""
_WITHOUT_MODEL: dict[str, type[EvolutionRanker | RandomRanker]] = {"evolution": EvolutionRanker, "random": RandomRanker}


def ranker_of(settings: RankerSettings, space: ChoiceSpace, folder: Path) -> Ranker:
    """The ranker of a search, not loaded yet; one whose model is a file may lose it, and is tried again then.

    Relative paths are from `folder`. Raises `InputError` as `make_ranker` does.
    """
    make = partial(
        make_ranker, settings.kind, space, model=settings.model, folder=folder,
        history=settings.history, shuffles=settings.shuffles, threads=settings.threads,
        gpu_layers=settings.gpu_layers, server_model=settings.server_model,
        api_key_env=settings.api_key_env, deadline=settings.deadline_seconds,
    )  # fmt: skip
    is_file = settings.model is not None and settings.kind not in _WITHOUT_MODEL and not is_url(settings.model)
    return AwaitedRanker(settings.kind, make) if is_file else make()


def make_ranker(
    kind: str,
    space: ChoiceSpace,
    *,
    model: str | None = None,
    folder: Path | None = None,
    history: int = MOST_TRIALS,
    shuffles: int = SHUFFLES,
    threads: int | None = None,
    gpu_layers: int = 0,
    server_model: str | None = None,
    api_key_env: str = KEY_VARIABLE,
    deadline: float = 60.0,
) -> Ranker:
    """The ranker `kind`, not loaded yet. The keywords matter to ``embedded`` and ``llama`` only.

    `model`: a .gguf file (relative paths from `folder`), ``smollm2``, or a server's address; without one, ``embedded``
    is the packaged model and ``llama`` is SmolLM2. What a file is used as depends on its metadata, not on `kind`.
    `history`: most past trials that the model sees; `shuffles`: orders of the pool's list that are averaged;
    `threads`: CPU threads, None for one (embedded) or the physical cores (llama);
    `gpu_layers`: layers on the GPU, negative for all; `server_model`, `api_key_env`, `deadline`: as in
    `ServerSettings`. Raises `InputError` for an unknown kind or an address that is none.
    """
    if plain := _WITHOUT_MODEL.get(kind):
        return plain()
    if kind not in RANKERS:
        raise InputError(f"there is no ranker {kind!r}: choose one of {', '.join(RANKERS)}")
    # Imported late: a search without a model needs none of what these bring.
    if model is not None and is_url(model):
        from ncode_search.agent.ranking.server import ServerRanker, ServerSettings

        server = ServerSettings(server_model, api_key_env, deadline)
        return ServerRanker(space, model, history=history, shuffles=shuffles, settings=server)
    if _is_embedded(kind, model, folder):
        from ncode_search.agent.ranking.embedded import EmbeddedRanker
        from ncode_search.agent.ranking.vector_session import VectorSettings

        vectors = VectorSettings(threads or 1, gpu_layers)
        return EmbeddedRanker(space, model=model, folder=folder, room=history, settings=vectors)
    # Without our metadata it is a language model, which gets the published prompt.
    from ncode_search.agent.ranking.llama import LlamaRanker
    from ncode_search.agent.ranking.llama_session import SessionSettings

    settings = SessionSettings(threads=threads, gpu_layers=gpu_layers)
    return LlamaRanker(space, model=model, folder=folder, history=history, shuffles=shuffles, settings=settings)


def _is_embedded(kind: str, model: str | None, folder: Path | None) -> bool:
    if model is None:
        return kind == "embedded"
    from ncode_search.agent.ranking.embedded_file import is_embedded
    from ncode_search.agent.ranking.gguf_file import read_header, resolve_model

    return is_embedded(read_header(resolve_model(model, folder)))
