"""What the embedded ranker's language model reads: one vector a trial of the history, one a candidate.

A vector has three parts:

- marks, random signs that say which options a code has. An option's signs are a hash of the set of trials that have
  it, so they do not depend on names, order or number of options and positions: renaming options and reordering
  positions changes nothing, and codes that share options have similar marks. Half of the marks weigh all positions
  alike, the other half by the relevance that the surrogate found.
- facts of the trial or the candidate: its score, what the surrogates predict for it, its distance from the others;
- facts of the whole history: its length, how well each surrogate does when a trial is left out.

`read` makes them; `agent/tuning` makes the training data with the same function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.ranking.relevance import RelevanceKernel, fit_relevance
from ncode_search.agent.ranking.surrogates import (
    Features,
    Floats,
    Predictions,
    Surrogate,
    fit_isotropic,
    fit_ridge,
)

SURROGATES = ("ridge", "isotropic", "relevance")
MARKS = 128
"""Random signs a vector."""
FACTS = 48
"""Numbers a vector besides; some are spare."""


@dataclass(frozen=True)
class Trials:
    """The history as the ranker sees it: n trials of L positions, oldest first; completed ones before others."""

    codes: NDArray[np.uint8]
    scores: Floats
    """Normal scores, shape ``(n,)``; of failed, stopped and pending trials what they are taken for."""
    state: NDArray[np.uint8]
    """0 completed, 1 failed or stopped early, 2 pending; shape ``(n,)``."""
    best: float
    """The best score of a completed trial."""


@dataclass(frozen=True)
class Reading:
    """What the model reads of n trials and m candidates."""

    features: Floats
    """Features of trials and candidates, shape ``(n + m, D)``."""
    relevance: Floats
    """Weight of each column of the features in the weighted half of the marks, shape ``(D,)``."""
    facts: Floats
    """Shape ``(n + m, FACTS)``."""
    prior: Predictions
    """What the surrogates predict for the candidates, shapes ``(m, 3)``."""
    trials: int
    """n."""


def read(features: Features, trials: Trials, pool: NDArray[np.uint8]) -> Reading:
    """Fit the surrogates to n ≥ 1 trials and lay out what the model reads for a pool of shape ``(m, L)``."""
    known, asked = features(trials.codes), features(pool)
    positions = pool.shape[1]
    fitted, prior = _fit(features, known, asked, trials, positions)
    left_out = [surrogate.leave_one_out() for surrogate in fitted]
    predicted = [surrogate.predict(asked, own) for surrogate, own in zip(fitted, prior, strict=True)]
    kernel = fitted[2].kernel
    assert isinstance(kernel, RelevanceKernel)
    whole = _whole(trials, left_out, kernel, features, positions)
    facts = np.zeros((len(known) + len(asked), FACTS))
    facts[:, 30:47] = whole
    facts[: len(known), :15] = _trial_facts(trials, left_out)
    facts[len(known) :, 15:30] = _candidate_facts(trials, predicted, known, asked, positions)
    return Reading(
        np.concatenate([known, asked]),
        _relevance(kernel),
        facts,
        Predictions(*(np.stack([getattr(one, name) for one in predicted], axis=1) for name in ("mean", "sd"))),
        len(known),
    )


def marks(features: Floats, relevance: Floats, signs: Floats, positions: int) -> Floats:
    """The marks of codes, shape ``(n + m, MARKS)``, given their features and the signs of the options."""
    half = MARKS // 2
    plain = features @ (signs[:, :half] / np.sqrt(positions))
    weighted = features @ (signs[:, half:] * relevance[:, np.newaxis])
    return np.concatenate([plain, weighted], axis=1)


def option_signs(codes: NDArray[np.uint8], sizes: Sequence[int], salt: int = 0) -> Floats:
    """Random signs of every option, shape ``(D, MARKS)``: a hash of which trials, shape ``(n, L)``, have it."""
    names = _mix(np.arange(1, len(codes) + 1, dtype=np.uint64) + np.uint64(salt << 20))
    sets = [
        np.array([names[column == option].sum(dtype=np.uint64) for option in range(size)], dtype=np.uint64)
        for column, size in zip(codes.T, sizes, strict=True)
    ]
    keys = np.concatenate(sets)
    words = np.stack([_mix(keys + np.uint64(word)) for word in range(MARKS // 64)], axis=1)
    bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
    return bits * 2.0 - 1.0  # type: ignore[return-value]


def _fit(
    features: Features, known: Floats, asked: Floats, trials: Trials, positions: int
) -> tuple[list[Surrogate], list[Floats]]:
    fitted = [
        fit_ridge(known, trials.scores),
        fit_isotropic(known, trials.scores, positions),
        fit_relevance(known, trials.scores, features.group),
    ]
    kernel = fitted[2].kernel
    assert isinstance(kernel, RelevanceKernel)
    return fitted, [np.full(len(asked), float(positions)), np.ones(len(asked)), kernel.prior(asked)]


def _trial_facts(trials: Trials, left_out: Sequence[Predictions]) -> Floats:
    count = len(trials.scores)
    means = np.stack([one.mean for one in left_out], axis=1)
    sds = np.stack([one.sd for one in left_out], axis=1)
    return np.column_stack([
        np.ones(count),
        trials.scores,
        trials.scores - trials.best,
        means.clip(-5, 5),
        sds.clip(0, 5),
        (trials.scores[:, np.newaxis] - means).clip(-5, 5),
        trials.state == 1,
        trials.state == 2,
        np.arange(1, count + 1) / count,
    ])  # fmt: skip


def _candidate_facts(
    trials: Trials, predicted: Sequence[Predictions], known: Floats, asked: Floats, positions: int
) -> Floats:
    shared = asked @ known.T / positions
    nearest = shared.argmax(axis=1)
    return np.column_stack([
        np.ones(len(asked)),
        np.stack([one.mean for one in predicted], axis=1).clip(-5, 5),
        np.stack([one.sd for one in predicted], axis=1).clip(0, 5),
        np.stack([(one.mean - trials.best) / one.sd for one in predicted], axis=1).clip(-5, 5),
        shared.max(axis=1),
        trials.scores[nearest],
        shared[:, int(trials.scores.argmax())],
        (1 - shared.max(axis=1)) * positions / 4,
        np.count_nonzero(asked[:, known.max(axis=0) <= 0], axis=1) / positions,
    ])  # fmt: skip


def _whole(
    trials: Trials, left_out: Sequence[Predictions], kernel: RelevanceKernel, features: Features, positions: int
) -> Floats:
    """Facts of the whole history: 17 of them."""
    errors = [trials.scores - one.mean for one in left_out]
    recent = max(len(trials.scores) // 4, 1)
    additive = kernel.additive.sum()
    return np.array([
        np.log1p(len(trials.scores)) / 5,
        trials.best / 3,
        *(np.sqrt(np.mean(error**2)) for error in errors),
        *(np.sqrt(np.mean(error[-recent:] ** 2)) for error in errors),
        *(np.mean(np.log(one.sd) + 0.5 * (error / one.sd) ** 2) for one, error in zip(left_out, errors, strict=True)),
        np.log(positions) / 4,
        np.log(len(features.group) / positions),
        np.log(kernel.noise) / 4,
        additive / (additive + kernel.mix),
        np.mean(trials.state == 1),
        np.mean(trials.state == 2),
    ]).clip(-5, 5)  # fmt: skip


def _relevance(kernel: RelevanceKernel) -> Floats:
    """Weight of each column in the weighted marks, shape ``(D,)``; a code's marks then have about unit length."""
    weight = np.sqrt(kernel.additive + kernel.product)
    return weight / max(float(np.sqrt(np.sum(weight**2) / 2)), 1e-12)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer (Steele, Lea and Flood, OOPSLA 2014): a random-looking number for each."""
    values = values * np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))  # type: ignore[no-any-return]
