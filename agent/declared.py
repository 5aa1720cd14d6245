"""What all declarations of a space share: what they need of the space, and how they name what is wrong in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from ncode_search import _core
from ncode_search.agent.errors import InputError


class Positions(Protocol):
    """What declarations need of their space."""

    positions: dict[str, tuple[Any, ...]]
    core: _core.Space

    def digit(self, name: str, option: Any) -> int:
        """The number of an option. Raises `InputError` for an unknown one."""


def check_known(name: object, known: Iterable[str], where: str) -> None:
    """Raises `InputError` unless `name` is one of the `known` positions."""
    if not isinstance(name, str) or name not in known:
        raise InputError(f"{where}: unknown position {name!r}; allowed: {', '.join(map(repr, known))}")


def is_list(value: object) -> bool:
    """Whether it is a sequence, and no text."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def items_of(value: Any, what: str) -> list[Any]:
    """The items of a list. Raises `InputError` for a text, a table, and what is no list."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise InputError(f"{what} is {value!r}; it must be a list")
    return list(value)


def json_text(value: Any) -> str:
    """The same text for the same JSON value; what is none gets some text, too."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=repr)
