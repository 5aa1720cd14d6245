"""How a user's Python function is named, so that a worker process can import it and a history can hold its name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ncode_search.agent.errors import InputError


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
