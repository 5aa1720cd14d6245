"""Tables of a TOML file checked against the dataclass that they become."""

from __future__ import annotations

import contextlib
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from ncode_search.evaluators.base import EvaluatorError

_TYPE_NAMES = {str: "text", int: "an integer", float: "a number", bool: "true or false", list: "a list"}


class OptionError(Exception):
    """A key or the type of its value is wrong. The text is one line: the key, what is wrong, the mend."""


def check_options(cls: type[Any], table: Mapping[str, Any], where: str, owner: str = "this table") -> None:
    """Check the keys and the types of `table` against the fields of the dataclass `cls`.

    Args:
        where: What the errors begin with, such as ``[search]``.
        owner: What has these keys, such as ``kind = "cnn"``.

    Raises:
        OptionError: for an unknown key, a missing one, or a value of another type than the field's.
    """
    known = {option.name: option for option in fields(cls) if option.init}
    _check_keys(table, known, where, owner)
    hints = typing.get_type_hints(cls)
    for key, value in table.items():
        _check_type(key, value, hints[key], where)


def require(holds: bool, key: str, value: object, allowed: str) -> None:
    """Refuse the value of a key of ``[evaluator]`` unless it `holds`; raises `EvaluatorError` with what is allowed."""
    if not holds:
        raise EvaluatorError(f"[evaluator] {key} = {value}: must be {allowed}")


def user_path(name: str, folder: Path) -> Path:
    """What the user wrote, relative to `folder`; a ``~`` whose home is not known stays, and names nothing."""
    path = Path(name)
    with contextlib.suppress(RuntimeError):
        path = path.expanduser()
    return folder / path


def suggest(given: str, known: Iterable[str]) -> str:
    """The names that are known, and the one that was perhaps meant."""
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1)
    hint = f'did you mean "{close[0]}"? ' if close else ""
    return f"{hint}known: {', '.join(names)}"


def _check_keys(table: Mapping[str, Any], known: Mapping[str, Field[Any]], where: str, owner: str) -> None:
    for key in table:
        if key not in known:
            raise OptionError(f"{where} {key} is no key of {owner}; {suggest(key, known)}")
    for key, option in known.items():
        if key not in table and option.default is MISSING and option.default_factory is MISSING:
            raise OptionError(f"{where} {key} is missing; {owner} needs it")


def _check_type(key: str, value: Any, hint: Any, where: str) -> None:
    wanted = _simple_types(hint)
    # TOML writes 1 for 1.0, and Python takes True for 1: so the types themselves are compared.
    if type(value) in wanted or (type(value) is int and float in wanted):
        return
    given = _TYPE_NAMES.get(type(value), f"a {type(value).__name__}")
    names = " or ".join(_TYPE_NAMES[kind] for kind in wanted)
    raise OptionError(f"{where} {key} = {value!r} is {given}; it must be {names}")


def _simple_types(hint: Any) -> list[type]:
    """The types of a field such as ``int`` or ``str | None``; a TOML table cannot say None."""
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return [typing.get_origin(member) or member for member in members if member is not types.NoneType]
