"""The language model as the ranker: each candidate's log-likelihood after the published prompt.

Nothing is generated or parsed, so there is no invalid answer, and the whole pool is ranked at once. A candidate's
score is the mean log-probability of its code's tokens; the mean, since tokenizers cut codes of the same length into
different numbers of tokens.

The prompt lists the pool in an order drawn from `rng`: listwise prompts favour positions, and a pool's order may mean
something. So the scores of `shuffles` orders are averaged; the history comes first in the prompt and is decoded once.

What must fit in the context, by priority: the candidate being scored, the pool's list, then the history, best first.
A pool whose list needs more than half of the context is not listed at all, for then every candidate stays on the same
footing.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.errors import InputError
from ncode_search.agent.observations import Observations
from ncode_search.agent.ranking.base import CodeText, RankerInfo
from ncode_search.agent.ranking.chat_template import ChatTemplate, ChatTemplateError
from ncode_search.agent.ranking.gguf_file import check_model, resolve_model, sha256
from ncode_search.agent.ranking.llama_session import LlamaSession, SessionSettings
from ncode_search.agent.ranking.prompt import MOST_TRIALS, SHUFFLES, history_text, largest_fit, pool_text
from ncode_search.agent.ranking.selftest import proven_settings


class LlamaRanker:
    """A GGUF model in this process. Used by one thread, the same from `load` to `close`."""

    def __init__(
        self,
        space: CodeText,
        *,
        model: str | None = None,
        folder: Path | None = None,
        history: int = MOST_TRIALS,
        shuffles: int = SHUFFLES,
        settings: SessionSettings | None = None,
    ) -> None:
        """`model`: a path (relative ones from `folder`) or None for SmolLM2; `history`: the most past trials shown."""
        self.stop = threading.Event()
        """Set by another thread, it makes `score` raise TimeoutError before its next decode call (about a second)."""
        self._space = space
        self._model, self._folder = model, folder
        self._history = min(history, MOST_TRIALS)
        self._shuffles = max(shuffles, 1)
        self._settings = settings or SessionSettings()
        self._info = RankerInfo("llama", model)
        self._session: LlamaSession | None = None
        self._template: ChatTemplate | None = None

    @property
    def info(self) -> RankerInfo:
        """Who ranks. The path and digest are known after `load`."""
        return self._info

    def load(self) -> None:
        """Find, check, try and load the model. Raises `InputError`; takes seconds, the first time on a machine more."""
        path = resolve_model(self._model, self._folder)
        check_model(path)
        digest = sha256(path)
        self._settings = proven_settings(path, digest, self._settings)
        self.close()
        self._session = LlamaSession(path, self._settings)
        self._template = self._parse_template(path, self._session)
        self._info = replace(self._info, model=str(path), digest=digest)

    def close(self) -> None:
        """Free the model. May be called twice."""
        if self._session is not None:
            self._session.close()
        self._session = None

    def score(self, known: Observations, pool: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float64]:
        """Mean log-probability a token of each candidate's code, shape ``(m,)``.

        Raises TimeoutError once `stop` is set, RuntimeError where llama.cpp fails.
        """
        candidates = self._space.to_text(pool)
        shown = known.best(self._history)
        history, values = self._space.to_text(known.codes[shown]), known.values[shown]
        total = np.zeros(len(pool))
        for _ in range(self._shuffles):
            listed = [candidates[at] for at in rng.permutation(len(pool))]
            total += self._mean_log_probabilities(history, values, listed, candidates)
        return total / self._shuffles

    def _mean_log_probabilities(
        self, history: Sequence[str], values: NDArray[np.float64], listed: Sequence[str], candidates: Sequence[str]
    ) -> NDArray[np.float64]:
        session = self._loaded()
        ending = self._render("")
        branches = [session.tokenize_after(code, ending or ";") for code in candidates]
        lengths = np.array([len(tokens) for tokens in branches])
        prompt = self._prompt_tokens(history, values, listed, room=session.context - int(lengths.max()))
        return np.asarray(session.log_likelihoods(prompt, branches, self._check) / lengths, dtype=np.float64)

    def _prompt_tokens(
        self, history: Sequence[str], values: NDArray[np.float64], listed: Sequence[str], room: int
    ) -> list[int]:
        """The longest prompt of at most `room` tokens: as many of the best trials as fit."""
        session = self._loaded()

        def tokens(shown: int, tail: str) -> list[int]:
            return session.tokenize_prompt(self._render(history_text(history[:shown], values[:shown]) + tail))

        tail = pool_text(listed)
        if len(tokens(0, tail)) > session.context // 2:
            tail = ""
        shown = largest_fit(len(history), lambda count: len(tokens(count, tail)) <= room)
        return tokens(shown, tail)

    def _render(self, text: str) -> str:
        return self._template.render(text) if self._template is not None else text

    def _check(self) -> None:
        if self.stop.is_set():
            raise TimeoutError("the ranker was told to stop")

    def _loaded(self) -> LlamaSession:
        if self._session is None:
            raise RuntimeError("the ranker is not loaded")
        return self._session

    @staticmethod
    def _parse_template(path: Path, session: LlamaSession) -> ChatTemplate | None:
        if session.chat_template is None:
            return None
        try:
            return ChatTemplate(session.chat_template, *session.special_texts)
        except ChatTemplateError as error:
            raise InputError(
                f"model {path} has a chat template that cannot be used ({error}): "
                "give a file with another tokenizer.chat_template, or with none"
            ) from error
