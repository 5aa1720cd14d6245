"""A model on a server as the ranker: llama.cpp's `llama-server`, `llama_cpp.server`, vLLM, or one like them.

The prompt is the published one, listed in `shuffles` orders of the pool, whose scores are averaged, as with a model in
this process; the chat template is the server's. `server_ways` has the ways to ask, from log-likelihoods of every
candidate down to an answer in plain text. The first way that works is kept; one that the server turns out not to
support gives place to the next. After a lost connection the search for a way begins anew, for another server may have
come back.

A decision on a server can be slow, so its time is watched: the first order of the pool always counts, a further one is
asked for only if there is time for it, and a way that cannot be done in time gives place to the next. Everything else
that goes wrong is an exception, and the search decides this trial by evolution.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.errors import InputError, RankerGoneError
from ncode_search.agent.observations import Observations
from ncode_search.agent.ranking.address import KEY_VARIABLE, parse_address
from ncode_search.agent.ranking.base import CodeText, RankerInfo
from ncode_search.agent.ranking.http_client import (
    TRIES,
    HttpClient,
    Limit,
    NoJsonError,
    RefusedError,
    ServerError,
    UnreachableError,
)
from ncode_search.agent.ranking.prompt import MOST_TRIALS, SHUFFLES, history_text, pool_text
from ncode_search.agent.ranking.server_api import Habits, PromptTooLongError, ServerApi, TooSlowError, UnsuitableError
from ncode_search.agent.ranking.server_ways import Scores, Way, all_ways

logger = logging.getLogger(__name__)

SAFETY = 0.95
"""The share of a decision's deadline that is used: an answer past it would be thrown away."""
_SHOWN_REASONS = 3


@dataclass(frozen=True)
class ServerSettings:
    """How a server is asked."""

    model: str | None = None
    """The model's name on the server; None for the first that it lists."""
    api_key_env: str = KEY_VARIABLE
    """The environment variable that holds the API key, where the server wants one."""
    deadline: float = 60.0
    """Seconds of one decision, and of `load`."""


class ServerRanker:
    """A model behind an HTTP address. Used by one thread, the same from `load` to `close`."""

    def __init__(
        self,
        space: CodeText,
        url: str,
        *,
        history: int = MOST_TRIALS,
        shuffles: int = SHUFFLES,
        settings: ServerSettings | None = None,
    ) -> None:
        """`url`: such as ``http://127.0.0.1:8080``; `history`: the most past trials shown. Raises `InputError`."""
        self.stop = threading.Event()
        """Set by another thread, it makes `score` raise TimeoutError within a quarter of a second."""
        self._space = space
        self._settings = settings or ServerSettings()
        self._history = min(history, MOST_TRIALS)
        self._shuffles = max(shuffles, 1)
        self._address = parse_address(url)
        self._client: HttpClient | None = None
        self._model = ""
        self._habits = Habits()
        self._way: Way | None = None
        self._only_winners = False  # whether there is no time for the log-likelihoods of every candidate
        self._info = RankerInfo("server", self._address.url)

    @property
    def info(self) -> RankerInfo:
        """Who ranks. The model's name is known after `load`."""
        return self._info

    def load(self) -> None:
        """See that the server is there and has the model. Raises `InputError`; `RankerGoneError` if that may pass."""
        self.close()
        self._client = HttpClient(self._address, self._key())
        try:
            answer = self._client.request("/v1/models", limit=Limit(self._settings.deadline, self.stop))
            self._model = self._chosen_model(answer)
        except (ServerError, TimeoutError) as error:
            self.close()
            kind = RankerGoneError if _may_come_back(error) else InputError
            raise kind(self._complaint(error)) from error
        except InputError:
            self.close()
            raise
        self._info = replace(self._info, model=f"{self._address.url} {self._model}")

    def close(self) -> None:
        """Hang up. May be called twice."""
        if self._client is not None:
            self._client.close()
        self._client = None

    def score(self, known: Observations, pool: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float64]:
        """Mean log-probability a token of each candidate's code, or 1 for the winner, shape ``(m,)``.

        Raises TimeoutError once `stop` is set or the deadline is near, `ServerError` where the server is gone or
        cannot be asked in any way. After a `load` that failed it tries that again.
        """
        if self._client is None:
            self.load()
        candidates = self._space.to_text(pool)
        shown = known.best(self._history)
        prompts = _Prompts(self._space.to_text(known.codes[shown]), known.values[shown])
        orders = [[candidates[at] for at in rng.permutation(len(pool))] for _ in range(self._shuffles)]
        limit = Limit(self._settings.deadline * SAFETY, self.stop)
        try:
            return self._by_some_way(prompts, orders, candidates, limit)
        except UnreachableError:
            self._way, self._habits, self._only_winners = None, Habits(), False
            raise

    def _by_some_way(
        self, prompts: _Prompts, orders: list[list[str]], candidates: Sequence[str], limit: Limit
    ) -> Scores:
        reasons: list[str] = []
        for way in self._ways_left():
            if way.ranks and self._only_winners:
                reasons = reasons or ["log-likelihoods of every candidate took too long"]
                continue
            try:
                scores = self._averaged(way, prompts, orders, candidates, limit)
            except UnsuitableError as error:
                logger.debug("%s: no %s: %s", self._address.url, way.name, error)
                reasons.append(f"{way.name}: {error}")
                # The ways that come next ask as much; what is too slow in one is too slow in all of them.
                self._only_winners |= isinstance(error, TooSlowError)
                continue
            except TimeoutError:
                self._only_winners |= way.ranks and not self._is_kept(way)
                raise
            self._keep(way, reasons)
            return scores
        self._way = None
        raise ServerError(f"{self._address.url} can be asked in no way ({'; '.join(reasons[-_SHOWN_REASONS:])})")

    def _ways_left(self) -> list[Way]:
        ways = all_ways()
        names = [way.name for way in ways]
        return ways[names.index(self._way.name) :] if self._way is not None else ways

    def _keep(self, way: Way, reasons: list[str]) -> None:
        if not self._is_kept(way):
            level = logging.INFO if way.ranks else logging.WARNING
            what = "scores every candidate" if way.ranks else "only names a winner"
            why = "" if way.ranks else f" ({'; '.join(reasons)})"
            logger.log(level, "the server %s %s: by %s%s", self._address.url, what, way.name, why)
        self._way = way

    def _is_kept(self, way: Way) -> bool:
        return self._way is not None and self._way.name == way.name

    def _averaged(
        self, way: Way, prompts: _Prompts, orders: list[list[str]], candidates: Sequence[str], limit: Limit
    ) -> Scores:
        begun, total = limit.spent, np.zeros(len(candidates))
        # An error of the server in a way that was never seen to work may be the way's: it is not worth waiting for.
        known = self._is_kept(way)
        api = ServerApi(self._require_client(), self._model, limit, TRIES if known else 2, self._habits)
        for done, listed in enumerate(orders):
            if done and limit.spent + (limit.spent - begun) / done > limit.seconds:
                return total / done
            try:
                total += self._fitting(way, api, prompts, listed, candidates)
            except RefusedError as error:
                if known or error.status != 500:
                    raise
                raise UnsuitableError(str(error)) from error
        return total / len(orders)

    @staticmethod
    def _fitting(
        way: Way, api: ServerApi, prompts: _Prompts, listed: Sequence[str], candidates: Sequence[str]
    ) -> Scores:
        """Scores after the longest prompt that the server takes: by trial, for only it can count its tokens."""
        for text in prompts.ever_shorter(listed):
            try:
                return way.score(api, text, candidates)
            except PromptTooLongError as error:
                refusal = error
        raise refusal

    def _require_client(self) -> HttpClient:
        if self._client is None:
            raise RuntimeError("the ranker is not loaded")
        return self._client

    def _key(self) -> str | None:
        name = self._settings.api_key_env
        key = os.environ.get(name, "").strip()
        if not key and name != KEY_VARIABLE:
            raise InputError(f"the environment variable {name} has no API key: set it, or mend api_key_env")
        if not key.isascii() or not key.isprintable():
            raise InputError(f"the environment variable {name} holds no API key: only printable ASCII can be sent")
        return key or None

    def _complaint(self, error: Exception) -> str:
        """One line on why the server cannot be used, with the mend."""
        url, name = self._address.url, self._settings.api_key_env
        if isinstance(error, RefusedError) and error.status in (401, 403):
            wrong = "does not take the API key" if os.environ.get(name) else "wants an API key"
            return f"model {url} {wrong} (HTTP {error.status}): put the right one into the environment variable {name}"
        if isinstance(error, NoJsonError):
            return f"model {error}: give the address of a llama.cpp or OpenAI-compatible server"
        if isinstance(error, RefusedError):
            mend = (
                "give the address of a llama.cpp or OpenAI-compatible server" if error.status < 429 else "see its log"
            )
            return f"model {url} does not list its models (HTTP {error.status}: {error.reason}): {mend}"
        if isinstance(error, TimeoutError):
            return f"model {url} does not answer within {self._settings.deadline:g} s: restart the server"
        return f"model {error}: start the server, or mend the address"

    def _chosen_model(self, answer: object) -> str:
        names = _model_names(answer)
        wanted = self._settings.model
        if not names:
            raise InputError(f"model {self._address.url} lists no models: start it with one, or give another address")
        if wanted is None:
            return names[0]
        if wanted not in names:
            listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise InputError(f"server_model {wanted!r} is not on {self._address.url}: choose one of {listed}")
        return wanted


@dataclass(frozen=True)
class _Prompts:
    """The published prompts of one decision."""

    history: Sequence[str]
    values: NDArray[np.float64]

    def ever_shorter(self, listed: Sequence[str]) -> list[str]:
        """With fewer and fewer of the best trials; at last also without the pool's list, for then every candidate
        stays on the same footing.
        """
        counts = [len(self.history)]
        while counts[-1]:
            counts.append(counts[-1] * 3 // 4)
        texts = [self._text(count) + pool_text(listed) for count in counts]
        return texts + [self._text(count) for count in counts]

    def _text(self, count: int) -> str:
        return history_text(self.history[:count], self.values[:count])


def _model_names(answer: object) -> list[str]:
    models = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(models, list):
        return []
    return [str(model["id"]) for model in models if isinstance(model, dict) and "id" in model]


def _may_come_back(error: Exception) -> bool:
    """Whether it is the server that is gone, slow or overloaded, and not the address or the key that is wrong."""
    is_ill = isinstance(error, RefusedError) and error.status >= 429
    return is_ill or isinstance(error, (UnreachableError, TimeoutError))
