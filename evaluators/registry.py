"""The kinds of evaluators, and how an ``[evaluator]`` table becomes one.

A kind is a frozen, keyword-only dataclass. Its fields are the keys of the table; the folder of the search file, which
relative paths start from, comes as ``folder: InitVar[Path]`` to its ``__post_init__``. Evaluators are built in the
worker, so that only the worker pays for their imports.
"""

from __future__ import annotations

import difflib
import importlib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from ncode_search.evaluators.base import Evaluator, EvaluatorError

KINDS = {
    "cnn": "ncode_search.evaluators.cnn:CnnEvaluator",
    "python": "ncode_search.evaluators.python:PythonEvaluator",
    "table": "ncode_search.evaluators.table:TableEvaluator",
}
"""Kind to ``module:class``, imported on first use."""

EXTRAS = {"cnn": "cnn"}
"""The optional dependencies of a kind."""

_TYPE_NAMES = {str: "text", int: "an integer", float: "a number", bool: "true or false"}


def build(kind: str, options: Mapping[str, Any], folder: Path, space: Mapping[str, Sequence[Any]]) -> Evaluator:
    """The evaluator of an ``[evaluator]`` table.

    Args:
        kind: A key of `KINDS`.
        options: The table without its ``kind``.
        folder: Where relative paths start.
        space: Each position's options, for the evaluator's ``check_space`` if it has one.

    Raises:
        EvaluatorError: one line that names the key, what is wrong and the mend.
    """
    cls = _load(kind)
    known = {option.name: option for option in fields(cls) if option.init}
    _check_keys(kind, options, known)
    _check_types(cls, options)
    evaluator: Evaluator = cls(**options, folder=folder)
    check_space = getattr(evaluator, "check_space", None)
    if check_space is not None:
        check_space(space)
    return evaluator


def _load(kind: str) -> Any:
    if kind not in KINDS:
        raise EvaluatorError(f'[evaluator] kind = "{kind}" is unknown; {_suggest(kind, KINDS)}')
    module, _, name = KINDS[kind].partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, OSError) as error:
        # OSError: a shared library of torch's that does not load.
        extra = f"; pip install 'ncode-search[{EXTRAS[kind]}]'" if kind in EXTRAS else ""
        reason = " ".join(str(error).split())
        raise EvaluatorError(f'[evaluator] kind = "{kind}" cannot be imported ({reason}){extra}') from error


def _check_keys(kind: str, options: Mapping[str, Any], known: Mapping[str, Field[Any]]) -> None:
    for key in options:
        if key not in known:
            raise EvaluatorError(f'[evaluator] {key} is no key of kind = "{kind}"; {_suggest(key, known)}')
    for key, option in known.items():
        if key not in options and option.default is MISSING and option.default_factory is MISSING:
            raise EvaluatorError(f'[evaluator] {key} is missing; kind = "{kind}" needs it')


def _check_types(cls: type, options: Mapping[str, Any]) -> None:
    hints = typing.get_type_hints(cls)
    for key, value in options.items():
        wanted = _simple_type(hints[key])
        # TOML writes 1 for 1.0, and Python takes True for 1.
        fits = type(value) in (int, float) if wanted is float else type(value) is wanted
        if not fits:
            given = _TYPE_NAMES.get(type(value), f"a {type(value).__name__}")
            raise EvaluatorError(f"[evaluator] {key} = {value!r} is {given}; it must be {_TYPE_NAMES[wanted]}")


def _simple_type(hint: Any) -> type:
    """The type of a field such as ``int`` or ``int | None``; a TOML table cannot say None."""
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    (wanted,) = (member for member in members if member is not types.NoneType)
    return wanted  # type: ignore[no-any-return]


def _suggest(given: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1)
    hint = f'did you mean "{close[0]}"? ' if close else ""
    return f"{hint}known: {', '.join(names)}"
