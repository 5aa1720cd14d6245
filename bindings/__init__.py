"""Search architectures and configurations with a language model as the ranker.

The names below load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ncode_search.agent.costs import Cost
    from ncode_search.agent.equality import Cell
    from ncode_search.agent.errors import NcodeError
    from ncode_search.agent.history import History
    from ncode_search.agent.search import Search
    from ncode_search.agent.space import SearchSpace
    from ncode_search.evaluators.base import Context, Pruned, Result

__version__ = "0.1.0"

_HOMES = {
    "Cell": "ncode_search.agent.equality",
    "Context": "ncode_search.evaluators.base",
    "Cost": "ncode_search.agent.costs",
    "History": "ncode_search.agent.history",
    "NcodeError": "ncode_search.agent.errors",
    "Pruned": "ncode_search.evaluators.base",
    "Result": "ncode_search.evaluators.base",
    "Search": "ncode_search.agent.search",
    "SearchSpace": "ncode_search.agent.space",
}
__all__ = [
    "Cell",
    "Context",
    "Cost",
    "History",
    "NcodeError",
    "Pruned",
    "Result",
    "Search",
    "SearchSpace",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ncode_search' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
