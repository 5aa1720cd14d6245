"""How well a network in training predicts: rank correlation on tables that it does not learn from.

For every table, histories of uniform trials, and uniform codes that are not among them; beside the network, the best of
the surrogates that it starts from. Cheap enough for every checkpoint; whole searches are for `agent.bench`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ncode_search.agent.bench.skill import spearman
from ncode_search.agent.observations import Observations
from ncode_search.agent.ranking.choices import Choices
from ncode_search.agent.ranking.context import visible
from ncode_search.agent.ranking.surrogates import Features
from ncode_search.agent.ranking.tokens import SURROGATES, read
from ncode_search.agent.score_table import ScoreTable
from ncode_search.agent.tuning.arrays import Batch, stack
from ncode_search.agent.tuning.network import RankerNetwork, centres
from ncode_search.agent.tuning.scratch import Judge, model_inputs
from ncode_search.agent.tuning.tasks import Task

LENGTHS = (25, 50, 100)
_LEAST_LEFT = 10
"""Codes that a table must have beside a history; a shorter table is not asked at that length."""


def skill_judge(tables: Sequence[ScoreTable], seeds: int = 8, queries: int = 256) -> Judge:
    """A judge for `scratch.train`: mean Spearman correlation at each length, and its lead over the surrogates."""
    batches = {
        length: [stack([_task(table, length, queries, seed) for seed in range(seeds)]) for table in enough]
        for length in LENGTHS
        if (enough := [table for table in tables if len(table) >= length + _LEAST_LEFT])
    }

    def judge(network: RankerNetwork) -> dict[str, float | int]:
        figures: dict[str, float | int] = {}
        for length, of_length in batches.items():
            skills = np.array([_skills(network, batch) for batch in of_length])
            figures[f"skill{length}"] = round(float(skills[:, 0].mean()), 4)
            figures[f"over{length}"] = round(float((skills[:, 0] - skills[:, 1:].max(axis=1)).mean()), 4)
            figures[f"worst{length}"] = round(float((skills[:, 0] - skills[:, 1:].max(axis=1)).min()), 4)
        return figures

    return judge


def _task(table: ScoreTable, length: int, queries: int, seed: int) -> Task:
    rng = np.random.default_rng([seed, length])
    rows = rng.permutation(len(table))[: length + queries]
    none = np.empty((0, table.codes.shape[1]), dtype=np.uint8)
    known = Observations(table.codes[rows[:length]], table.values[rows[:length]], none, none)
    choices = Choices(table.space)
    features = Features(choices.sizes, choices.ordered)
    trials, scale = visible(known, choices, features)
    pool = choices(table.codes[rows[length:]])
    codes = np.concatenate([trials.codes, pool])
    targets = scale(table.values[rows[length:]])
    uniform = np.ones(len(pool), dtype=bool)
    return Task(trials, codes, choices.sizes, choices.ordered, read(features, trials, pool), targets, uniform)


@torch.no_grad()
def _skills(network: RankerNetwork, batch: Batch) -> NDArray[np.float64]:
    """Mean Spearman correlation of the network and of each surrogate, shape ``(4,)``."""
    inputs, mask = (torch.from_numpy(one) for one in model_inputs(batch, np.random.default_rng(0)))
    device = next(network.parameters()).device
    mean, sd = torch.from_numpy(batch.mean).to(device), torch.from_numpy(batch.sd).to(device)
    logs = network(inputs.to(device), batch.trial_facts.shape[1], mask.to(device), mean, sd)
    predicted = (logs.exp() @ centres(device)).cpu().numpy()
    columns = [predicted, *(batch.mean[..., which] for which in range(len(SURROGATES)))]
    return np.array([
        np.mean([spearman(one, true) for one, true in zip(column, batch.targets, strict=True)]) for column in columns
    ])  # fmt: skip
