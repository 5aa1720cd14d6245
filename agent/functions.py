"""How a user's Python function is named, so that a worker process can import it and a history can hold its name."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ncode_search.agent.errors import InputError
from ncode_search.evaluators.base import EvaluatorError
from ncode_search.evaluators.python import source_of

logger = logging.getLogger(__name__)


def log_imports(evaluator: Mapping[str, Any], folder: Path) -> list[str]:
    """Say which code of the user's a process is about to import for an ``[evaluator]`` table, before it does; returns
    where that is.

    Raises `InputError` where it may not be imported.
    """
    names = [evaluator[key] for key in ("function", "cost_function") if isinstance(evaluator.get(key), str)]
    try:
        sources = [source_of(name, folder) for name in (names if evaluator.get("kind") == "python" else [])]
    except EvaluatorError as error:
        raise InputError(str(error)) from None
    for source, name in zip(sources, names, strict=False):
        logger.info("imports %s for %s", source, name)
    return sources


def evaluator_table(function: Callable[..., Any]) -> tuple[dict[str, Any], Path]:
    """The ``[evaluator]`` table for a function, and the folder that its module is imported from.

    Raises `InputError` for a function that another process cannot import by name.
    """
    name = getattr(function, "__qualname__", "")
    if not name.isidentifier():
        raise InputError(
            f"evaluator {function!r} cannot be imported by a worker: define a function at the top of a module"
        )
    module = function.__module__
    file = getattr(sys.modules[module], "__file__", None)
    if file is None:
        raise InputError(f"evaluator {name!r} is in no file: put it into a module or script, or use ask and tell")
    path = Path(file).resolve()
    if module == "__main__":
        return {"kind": "python", "function": f"{path.name}:{name}"}, path.parent
    is_package = path.stem == "__init__"
    return {"kind": "python", "function": f"{module}:{name}"}, path.parents[module.count(".") + is_package]
