"""The part of a history that the embedded ranker sees, and what it takes the trials without a value for.

A long history is cut: a quarter of the room for the newest trials, a quarter for the best, the rest spread evenly over
the others. Failed trials count as the worst completed one; pending trials as what ridge regression predicts for them,
so that a decision neither repeats nor ignores what is under way (the "kriging believer", Ginsbourger et al. 2010).
Trials that were stopped early fill the room that completed ones leave. Their last scores take part in the ranking of
all scores, so that they stand in their order among themselves and, as a rule, below those that were trained for longer;
the model is told, as of failed ones, that they came to no value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.observations import Observations
from ncode_search.agent.ranking.choices import Choices
from ncode_search.agent.ranking.normal_scores import NormalScores
from ncode_search.agent.ranking.surrogates import Features, Floats, fit_ridge
from ncode_search.agent.ranking.tokens import Trials

ROOM = 200
"""Completed trials that are seen at most."""
OTHERS = 32
"""Failed trials, and pending ones, that are seen at most; the newest."""


def visible(known: Observations, choices: Choices, features: Features, room: int = ROOM) -> tuple[Trials, NormalScores]:
    """What is seen of a history with at least one completed trial, and the scale of its scores.

    It costs the same after any number of trials: nothing is done with those that are not seen.
    """
    rows = chosen_rows(known, room)
    codes, values = choices(known.codes[rows]), known.values[rows]
    stopped = slice(max(0, len(known.pruned) - (room - len(rows))), None)
    pruned, partial = choices(known.pruned[stopped].reshape(-1, codes.shape[1])), known.partial[stopped]
    scale = NormalScores(np.concatenate([values, partial]))
    scores, guessed = scale(values), scale(partial)
    failed, pending = choices(known.failed[-OTHERS:]), choices(known.pending[-OTHERS:])
    measured, scored = np.concatenate([codes, pruned]), np.concatenate([scores, guessed])
    believed = _believed(features, measured, scored, pending)
    groups = [codes, failed, pruned, pending]
    states = np.repeat(np.array([0, 1, 1, 2], dtype=np.uint8), list(map(len, groups)))
    taken_for = np.concatenate([scores, np.full(len(failed), scored.min()), guessed, believed])
    return Trials(np.concatenate(groups), taken_for, states, float(scores.max())), scale


def chosen_rows(known: Observations, room: int) -> NDArray[np.intp]:
    """Indices of the completed trials that are seen, oldest first."""
    count = len(known)
    if count <= room:
        return np.arange(count)
    newest = np.arange(count - room // 4, count)
    best = known.best(room // 4)
    best = np.sort(best[best < newest[0]])
    others = newest[0] - len(best)
    spread = np.linspace(0, others - 1, room - len(newest) - len(best)).astype(np.intp)
    return np.sort(np.concatenate([newest, best, _without(best, spread)]))


def _without(left_out: NDArray[np.intp], places: NDArray[np.intp]) -> NDArray[np.intp]:
    """The numbers at `places` of 0, 1, 2, ... without those `left_out`, which are sorted."""
    return places + np.searchsorted(left_out - np.arange(len(left_out)), places, side="right")


def _believed(features: Features, codes: NDArray[np.uint8], scores: Floats, pending: NDArray[np.uint8]) -> Floats:
    if not len(pending):
        return np.empty(0)
    asked = features(pending)
    ridge = fit_ridge(features(codes), scores)
    return ridge.predict(asked, np.full(len(asked), float(pending.shape[1]))).mean
