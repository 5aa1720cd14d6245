"""Small trainings in NumPy that keep the evaluators' contract, and ones that break it in one way each."""

import contextlib
import sys
from typing import Any

import numpy as np

from ncode_search.evaluators.base import Pruned, Result

EPOCHS = 6
_leaked: list[Any] = []


def train(config, context, *, noise=None, before_checkpoint=None, keeps=("epoch", "weights", "velocity", "random")):
    """Logistic regression by gradient descent with momentum, on noisy data; the score is its accuracy."""
    rng = np.random.default_rng(context.seed)
    points = rng.normal(size=(300, 5))
    labels = (points @ np.arange(5.0) + rng.normal(size=300) > 0).astype(float)
    state = {"epoch": 0, "weights": np.zeros(5), "velocity": np.zeros(5), "random": 0}
    state.update({name: value for name, value in (context.restore() or {}).items() if name in keeps})
    for epoch in range(state["epoch"] + 1, EPOCHS + 1):
        order = np.random.default_rng([context.seed, state["random"]]).permutation(300)
        for batch in order.reshape(10, 30):
            guess = 1 / (1 + np.exp(-points[batch] @ state["weights"]))
            gradient = points[batch].T @ (guess - labels[batch]) / 30
            state["velocity"] = 0.9 * state["velocity"] - config["rate"] * gradient
            state["weights"] = state["weights"] + state["velocity"]
        state = {**state, "epoch": epoch, "random": state["random"] + 1}
        loss = float(np.abs(points @ state["weights"] - labels).mean()) + (0 if noise is None else noise())
        if before_checkpoint is not None:
            before_checkpoint(epoch, loss)
        else:
            context.checkpoint(state)
            context.report(epoch, loss=loss)
    return -loss


def unseeded(config, context):
    return train(config, context, noise=np.random.default_rng().random)


def skips_a_report(config, context):
    def report(epoch, loss):
        if epoch != 3:
            context.report(epoch, loss=loss)

    return train(config, context, before_checkpoint=report)


def swallows_the_stop(config, context):
    def report(epoch, loss):
        with contextlib.suppress(Pruned):
            context.report(epoch, loss=loss)

    return train(config, context, before_checkpoint=report)


def forgets_the_momentum(config, context):
    return train(config, context, keeps=("epoch", "weights", "random"))


def restarts_its_count(config, context):
    return train(config, context, keeps=("weights", "velocity"))


def leaks(config, context):
    _leaked.append(np.ones(6_000_000))
    return train(config, context)


def leaks_a_little(config, context):
    _leaked.append(np.ones(7 << 17))
    return train(config, context)


def makes_no_checkpoint(config, context):
    return train(config, context, before_checkpoint=lambda epoch, loss: context.report(epoch, loss=loss))


def makes_one_report(config, context):
    context.checkpoint({"epoch": 1})
    context.report(1, loss=0.5)
    return 0.5


def reports_nothing(config, context):
    return 0.5


def has_no_score(config, context):
    return float("nan")


def returns_a_text(config, context):
    return "0.5"


def has_a_metric_of_text(config, context):
    metrics: dict[str, Any] = {"how": "good"}
    return Result(0.5, metrics)


def costs_less_than_nothing(config, context):
    return Result(0.5, seconds=-1)


def reports_a_text(config, context):
    context.report(1, loss="low")
    return 0.5


def prunes_itself(config, context):
    raise Pruned("of its own accord")


def exits(config, context):
    sys.exit(3)


def raises(config, context):
    raise RuntimeError("no such\nlayer")
