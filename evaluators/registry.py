"""The kinds of evaluators, and how an ``[evaluator]`` table becomes one.

A kind is a frozen, keyword-only dataclass. Its fields are the keys of the table; the folder of the search file, which
relative paths start from, comes as ``folder: InitVar[Path]`` to its ``__post_init__``. Evaluators are built in the
worker, so that only the worker pays for their imports.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ncode_search.evaluators.base import Evaluator, EvaluatorError
from ncode_search.evaluators.options import OptionError, check_options, suggest

KINDS = {
    "cnn": "ncode_search.evaluators.cnn:CnnEvaluator",
    "lora-classify": "ncode_search.evaluators.lora_classify:LoraClassifyEvaluator",
    "lora-generate": "ncode_search.evaluators.lora_generate:LoraGenerateEvaluator",
    "lora-segment": "ncode_search.evaluators.lora_segment:LoraSegmentEvaluator",
    "python": "ncode_search.evaluators.python:PythonEvaluator",
    "table": "ncode_search.evaluators.table:TableEvaluator",
}
"""Kind to ``module:class``, imported on first use."""

EXTRAS = {"cnn": "cnn", "lora-classify": "lora", "lora-generate": "lora", "lora-segment": "lora"}
"""The optional dependencies of a kind."""


def build(
    kind: str,
    options: Mapping[str, Any],
    folder: Path,
    space: Mapping[str, Sequence[Any]],
    goal: str | None = None,
    device: str = "cpu",
) -> Evaluator:
    """The evaluator of an ``[evaluator]`` table.

    Args:
        kind: A key of `KINDS`.
        options: The table without its ``kind``.
        folder: Where relative paths start.
        space: Each position's options, for the evaluator's ``check_space`` if it has one.
        goal: ``maximize`` or ``minimize``, where its scores are searched.
        device: What it is to compute on.

    Raises:
        EvaluatorError: one line that names the key, what is wrong and the mend.
    """
    cls = class_of(kind)
    try:
        check_options(cls, options, where="[evaluator]", owner=f'kind = "{kind}"')
    except OptionError as error:
        raise EvaluatorError(str(error)) from None
    _check_device(kind, device)
    with _in_one_line(kind):
        evaluator: Evaluator = cls(**options, folder=folder)
        _check_goal(kind, evaluator, goal)
        check_space = getattr(evaluator, "check_space", None)
        if check_space is not None:
            check_space(space)
    return evaluator


@contextmanager
def _in_one_line(kind: str) -> Iterator[None]:
    """Turn what no evaluator expects, libraries having errors of all kinds, into a line that says where it arose."""
    try:
        yield
    except EvaluatorError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise EvaluatorError(
            f'[evaluator] kind = "{kind}" cannot be set up: {reason} ({Path(last.filename).name}, line {last.lineno}); '
            "correct the keys or the files that they name"
        ) from error


def _check_device(kind: str, device: str) -> None:
    """Refuse a GPU that torch cannot use, for a kind that needs torch. A user's function may need it for other things,
    and fork processes, which is over once CUDA is initialised.
    """
    if kind in EXTRAS and device != "cpu":
        from ncode_search.evaluators.torch_state import why_unusable

        if (reason := why_unusable(device)) is not None:
            raise EvaluatorError(f'[evaluator] kind = "{kind}": {reason}')


def _check_goal(kind: str, evaluator: Evaluator, goal: str | None) -> None:
    wanted = getattr(evaluator, "score_goal", None)
    if None not in (goal, wanted) and goal != wanted:
        score = getattr(evaluator, "score_metric", "the score")
        better = "lower" if wanted == "minimize" else "higher"
        raise EvaluatorError(
            f'[search] goal = "{goal}" looks for the worst: {score} of kind = "{kind}" is better the {better} it is; '
            f'say goal = "{wanted}"'
        )


def class_of(kind: str) -> Any:
    """The dataclass of a kind. Raises `EvaluatorError` where there is none, or its libraries are not installed."""
    if kind not in KINDS:
        raise EvaluatorError(f'[evaluator] kind = "{kind}" is unknown; {suggest(kind, KINDS)}')
    module, _, name = KINDS[kind].partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, OSError) as error:
        # OSError: a shared library of torch's that does not load.
        extra = f"; pip install 'ncode-search[{EXTRAS[kind]}]'" if kind in EXTRAS else ""
        reason = " ".join(str(error).split())
        raise EvaluatorError(f'[evaluator] kind = "{kind}" cannot be imported ({reason}){extra}') from error
