"""The ranker that comes with the package: a small language model that reads a trial as one vector.

For every candidate the model gives a distribution of its score, starting from what three classical surrogates predict
(`tokens`, `surrogates`). A candidate's score is its expected improvement over the best trial so far, under a mixture of
the model, blended with the two Gaussian processes, and ridge regression; the weights of the two are earned (`trust`).
With the probability that neither deserves, the choice is evolution's. The blend explores more than the model alone,
which predicts better and searches worse (docs/benchmarks.md).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from ncode_search.agent.observations import FORECASTERS, Observations
from ncode_search.agent.ranking.base import ChoiceSpace, RankerInfo, Ranking
from ncode_search.agent.ranking.baselines import EvolutionRanker
from ncode_search.agent.ranking.choices import Choices
from ncode_search.agent.ranking.context import OTHERS, ROOM, visible
from ncode_search.agent.ranking.embedded_file import EmbeddedFile, read_embedded
from ncode_search.agent.ranking.gguf_file import resolve_model, sha256
from ncode_search.agent.ranking.normal_scores import NormalScores
from ncode_search.agent.ranking.surrogates import Features, Floats
from ncode_search.agent.ranking.tokens import Reading, Trials, marks, option_signs, read
from ncode_search.agent.ranking.trust import PRIOR, earned
from ncode_search.agent.ranking.vector_selftest import check_runs
from ncode_search.agent.ranking.vector_session import VectorSession, VectorSettings

PACKAGED = Path(__file__).with_name("embedded.gguf")
"""The model that comes with the package."""
_BLEND = np.array([0.0, 0.4, 0.4])
"""Shares of the surrogates in the distribution that is searched with; the rest is the model's. Chosen by searches on
validation tables."""
_FLOOR = 1e-3
"""Share of an even distribution in the surrogates' mixture, as in training."""


@dataclass(frozen=True)
class Prediction:
    """A distribution of the normal score of each of m candidates, over bins."""

    probabilities: Floats
    """Shape ``(m, bins)``."""
    centres: Floats
    """Shape ``(bins,)``."""

    @property
    def mean(self) -> Floats:
        """Shape ``(m,)``."""
        return self.probabilities @ self.centres

    def log_density(self, scores: Floats) -> Floats:
        """The natural logarithm of the density at each candidate's true score, shape ``(m,)``."""
        width = self.centres[1] - self.centres[0]
        at = np.rint((scores - self.centres[0]) / width).astype(int).clip(0, len(self.centres) - 1)
        return np.log(self.probabilities[np.arange(len(scores)), at] / width)  # type: ignore[no-any-return]

    def improvement(self, best: float) -> Floats:
        """Expected improvement over `best`, shape ``(m,)``."""
        return self.probabilities @ np.maximum(self.centres - best, 0)


class EmbeddedRanker:
    """An embedded model in this process. Used by one thread, the same from `load` to `close`."""

    def __init__(
        self,
        space: ChoiceSpace,
        *,
        model: str | None = None,
        folder: Path | None = None,
        room: int = ROOM,
        settings: VectorSettings | None = None,
        trusted: bool = False,
    ) -> None:
        """`model`: a path (relative ones from `folder`) or None for the packaged one; `room`: most trials seen;
        `trusted`: the file is this program's own, so that it need not be tried in another process first.
        """
        self.stop = threading.Event()
        """Set by another thread; a decision takes milliseconds, so it is looked at between its parts only."""
        self._choices = Choices(space)
        self._features = Features(self._choices.sizes, self._choices.ordered)
        self._model, self._folder, self._room = model, folder, room
        self._trusted = trusted or model is None
        self._settings = replace(settings or VectorSettings(), room=room + 2 * OTHERS)
        self._info = RankerInfo("embedded", model)
        self._blas = ThreadpoolController()
        self._session: VectorSession | None = None
        self._file: EmbeddedFile | None = None

    @property
    def info(self) -> RankerInfo:
        """Who ranks. The path and digest are known after `load`."""
        return self._info

    def load(self) -> None:
        """Find, check, try and load the model. Raises `InputError`."""
        path = PACKAGED if self._model is None else resolve_model(self._model, self._folder)
        self._file, digest = read_embedded(path), sha256(path)
        if not self._trusted:
            check_runs(path, digest, self._settings)
        self.close()
        self._session = VectorSession(path, self._settings)
        self._info = replace(self._info, model=str(path), digest=digest)

    def close(self) -> None:
        """Free the model. May be called twice."""
        if self._session is not None:
            self._session.close()
        self._session = None

    def score(self, known: Observations, pool: NDArray[np.uint8], rng: np.random.Generator) -> Floats:
        """The scores of `rank`, shape ``(m,)``."""
        return self.rank(known, pool, rng).scores

    def rank(self, known: Observations, pool: NDArray[np.uint8], rng: np.random.Generator) -> Ranking:
        """Expected improvements, with what was predicted and who had how much say."""
        if not len(known):
            return Ranking(rng.random(len(pool)))
        trials, scale, predicted, surrogates = self._look(known, pool)
        blended = np.einsum("s,msb->mb", _BLEND, surrogates) + (1 - _BLEND.sum()) * predicted
        model, ridge = (Prediction(each, self._centres) for each in (blended, surrogates[:, 0]))
        weights = earned(known, scale)
        forecasts = np.stack([scale.inverse(one) for one in (model.mean, ridge.mean, np.zeros(len(pool)))], axis=1)
        trust = dict(zip(FORECASTERS, weights.tolist(), strict=True))
        if rng.random() < weights[2] - PRIOR[2]:
            return Ranking(EvolutionRanker().score(known, pool, rng), forecasts, trust, decided_by="evolution")
        say = weights[:2] / weights[:2].sum()
        scores = say[0] * model.improvement(trials.best) + say[1] * ridge.improvement(trials.best)
        return Ranking(scores, forecasts, trust)

    def predict(self, known: Observations, pool: NDArray[np.uint8], rng: np.random.Generator) -> Prediction:
        """What the model alone predicts for a history of at least one trial."""
        return Prediction(self._look(known, pool)[2], self._centres)

    def _look(self, known: Observations, pool: NDArray[np.uint8]) -> tuple[Trials, NormalScores, Floats, Floats]:
        """What is seen of the history, its scale, and what `_distributions` gives."""
        # The matrices are small: more threads gain nothing, and spin for seconds where trainings use the cores.
        with self._blas.limit(limits=1, user_api="blas"):
            trials, scale = visible(known, self._choices, self._features, self._room)
            return trials, scale, *self._distributions(trials, self._choices(pool))

    def _distributions(self, trials: Trials, pool: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """The model's over the bins, shape ``(m, bins)``, and the surrogates', shape ``(m, surrogates, bins)``."""
        if self._file is None or self._session is None:
            raise RuntimeError("the ranker is not loaded")
        reading = read(self._features, trials, pool)
        vectors = self._file.enter(self._inputs(reading, trials, pool.shape[1]))
        outputs = self._session.outputs(vectors[: reading.trials], vectors[reading.trials :])
        surrogates = _on_bins(reading, self._centres)
        return _mixed(outputs.astype(np.float64), surrogates), surrogates

    @property
    def _centres(self) -> Floats:
        if self._file is None:
            raise RuntimeError("the ranker is not loaded")
        return self._file.centres

    def _inputs(self, reading: Reading, trials: Trials, positions: int) -> Floats:
        signs = option_signs(trials.codes, self._choices.sizes)
        seen = marks(reading.features, reading.relevance, signs, positions)
        return np.concatenate([seen, reading.facts], axis=1)


def _on_bins(reading: Reading, centres: Floats) -> Floats:
    """What each surrogate predicts, as a distribution over the bins, shape ``(m, surrogates, bins)``."""
    mean, sd = reading.prior.mean[..., np.newaxis], np.maximum(reading.prior.sd[..., np.newaxis], 0.1)
    return _softmax(-0.5 * ((centres - mean) / sd) ** 2)


def _mixed(outputs: Floats, surrogates: Floats) -> Floats:
    """The model's distribution, shape ``(m, bins)``: the surrogates', mixed and corrected as the model says."""
    bins = surrogates.shape[2]
    weights = _softmax(outputs[:, bins : bins + surrogates.shape[1]])
    mixture = np.einsum("ms,msb->mb", weights, surrogates) * (1 - _FLOOR) + _FLOOR / bins
    return _softmax(outputs[:, :bins] + np.log(mixture))


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
