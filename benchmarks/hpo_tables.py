"""Make tables of real hyper-parameter searches: what the packaged ranker learns from besides architectures.

Every table has one learner of scikit-learn on one data set that scikit-learn carries, trained in up to `MOST`
configurations and scored by cross-validation. Takes about ten minutes on one core:

    python benchmarks/hpo_tables.py FOLDER
"""

from __future__ import annotations

import csv
import itertools
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

MOST = 400
"""Configurations a table."""
FOLDS = 3
_SCALERS: dict[str, Callable[[], Any] | None] = {"none": None, "standard": StandardScaler, "range": MinMaxScaler}

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Learner:
    """A learner and the options of its positions."""

    space: Mapping[str, Sequence[Any]]
    make: Callable[[Config], Any]


def svm(config: Config) -> Any:
    """A support vector machine."""
    names = {"C": "C", "kernel": "kernel", "gamma": "gamma", "class_weight": "weights"}
    # Without a limit, some of the worst configurations take minutes.
    return _scaled(config, SVC(**{name: config[position] for name, position in names.items()}, max_iter=2000))


def forest(config: Config) -> Any:
    """A random forest; also with randomly few features and shallow trees."""
    names = ("n_estimators", "max_depth", "min_samples_leaf", "max_features", "criterion", "bootstrap")
    return RandomForestClassifier(**{name: config[name] for name in names}, random_state=0)


def boosting(config: Config) -> Any:
    """Gradient boosting on histograms."""
    return HistGradientBoostingClassifier(**config, random_state=0, early_stopping=False)


def network(config: Config) -> Any:
    """A small fully connected network, trained for a few epochs."""
    hidden = [size for size in (config["first"], config["second"]) if size]
    model = MLPClassifier(
        hidden,
        activation=config["activation"],
        learning_rate_init=config["rate"],
        alpha=config["decay"],
        batch_size=config["batch"],
        max_iter=10,
        random_state=0,
    )
    return _scaled(config, model)


def neighbours(config: Config) -> Any:
    """Nearest neighbours, after a projection."""
    model = KNeighborsClassifier(config["k"], weights=config["weights"], p=config["p"])
    return _scaled(config, *([PCA(config["components"], random_state=0)] if config["components"] else []), model)


def linear(config: Config) -> Any:
    """A linear model by stochastic gradient descent."""
    names = ("loss", "penalty", "alpha", "learning_rate", "eta0")
    return _scaled(config, SGDClassifier(**{name: config[name] for name in names}, max_iter=20, random_state=0))


LEARNERS: dict[str, Learner] = {
    "svm": Learner(
        {
            "C": [10.0**power for power in range(-3, 4)],
            "kernel": ["linear", "poly", "rbf", "sigmoid"],
            "gamma": [10.0**power for power in range(-4, 2)],
            "scaler": list(_SCALERS),
            "weights": [None, "balanced"],
        },
        svm,
    ),
    "forest": Learner(
        {
            "n_estimators": [2, 5, 12, 30],
            "max_depth": [1, 2, 4, 8, None],
            "min_samples_leaf": [1, 3, 10, 30],
            "max_features": [1, "sqrt", 0.5, None],
            "criterion": ["gini", "entropy"],
            "bootstrap": [False, True],
        },
        forest,
    ),
    "boosting": Learner(
        {
            "learning_rate": [0.01, 0.03, 0.1, 0.3, 1.0],
            "max_iter": [3, 8, 20],
            "max_leaf_nodes": [2, 4, 8, 16],
            "l2_regularization": [0.0, 1.0, 30.0],
            "min_samples_leaf": [2, 10, 40],
        },
        boosting,
    ),
    "network": Learner(
        {
            "first": [4, 8, 16, 32, 64],
            "second": [0, 8, 32],
            "activation": ["relu", "tanh", "logistic", "identity"],
            "rate": [1e-4, 1e-3, 1e-2, 1e-1],
            "decay": [1e-5, 1e-2, 1.0],
            "batch": [16, 64],
            "scaler": list(_SCALERS),
        },
        network,
    ),
    "neighbours": Learner(
        {
            "k": [1, 2, 3, 5, 8, 13, 21, 34],
            "weights": ["uniform", "distance"],
            "p": [1, 2, 4],
            "scaler": list(_SCALERS),
            "components": [0, 2, 4, 8],
        },
        neighbours,
    ),
    "linear": Learner(
        {
            "loss": ["hinge", "log_loss", "modified_huber", "perceptron"],
            "penalty": ["l1", "l2", "elasticnet"],
            "alpha": [10.0**power for power in range(-6, 1)],
            "learning_rate": ["optimal", "constant", "invscaling", "adaptive"],
            "eta0": [1e-4, 1e-2, 1.0],
            "scaler": list(_SCALERS),
        },
        linear,
    ),
}
DATA: dict[str, Callable[..., Any]] = {
    "digits": datasets.load_digits,
    "cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "diabetes": datasets.load_diabetes,
}


def main() -> None:
    """Write all tables that are not there yet."""
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in itertools.product(LEARNERS, DATA):
        path = folder / f"{name}_{data}.csv"
        if not path.exists():
            write(path, LEARNERS[name], *_examples(data))
            print(path, flush=True)


def write(path: Path, learner: Learner, inputs: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
    """One table; it appears whole or not at all."""
    partial = path.with_suffix(".part")
    with partial.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["code", "accuracy"])
        for digits in _chosen(learner):
            config = {name: learner.space[name][digit] for name, digit in zip(learner.space, digits, strict=True)}
            score = cross_val_score(learner.make(config), inputs, labels, cv=FOLDS, error_score=0.0).mean()
            rows.writerow(["".join(map(str, digits)), f"{score:.5f}"])
    partial.replace(path)


def _chosen(learner: Learner) -> list[tuple[int, ...]]:
    every = list(itertools.product(*(range(len(options)) for options in learner.space.values())))
    rng = np.random.default_rng(0)
    return [every[at] for at in np.sort(rng.permutation(len(every))[:MOST])]


def _examples(name: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """At most 500 examples, in random order; numbers to predict become thirds."""
    inputs, labels = DATA[name](return_X_y=True)
    if name == "diabetes":
        labels = np.searchsorted(np.quantile(labels, [1 / 3, 2 / 3]), labels)
    order = np.random.default_rng(1).permutation(len(inputs))[:500]
    return inputs[order], labels[order]


def _scaled(config: Config, *steps: Any) -> Any:
    scaler = _SCALERS[config["scaler"]]
    return make_pipeline(*([scaler()] if scaler else []), *steps)


if __name__ == "__main__":
    main()
