"""The search space: named positions, the options of each, and the way between configurations and NCodes.

A configuration is a dictionary from position names to options. Its NCode is a vector with the index of every chosen
option; as text it is one character a position. Options are JSON values and are told apart by their JSON text, so
``1``, ``1.0``, ``true`` and ``"1"`` are four different options.

A space may declare which codes are equal, see `ncode_search.agent.equality`; all that are have one canonical code. And
it may declare what codes must keep to, see `ncode_search.agent.constraints`; only those that do are ever proposed.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ncode_search import _core
from ncode_search.agent.constraints import Constraints, Forbidden, declared_constraints
from ncode_search.agent.costs import Cost
from ncode_search.agent.equality import Cell, Equality, Groups, When, declared_equality
from ncode_search.agent.errors import InputError
from ncode_search.agent.observations import Codes

Config = dict[str, Any]
"""Position name to chosen option."""
COUNTED = 10_000_000
"""The largest space whose canonical codes are counted."""

_COUNTED_AT_ONCE = 1 << 16
_DIGITS = np.full(256, 255, np.uint8)
"""Character to digit; 255, which no space has, for all others."""
_DIGITS[np.frombuffer(_core.ALPHABET.encode(), np.uint8)] = np.arange(len(_core.ALPHABET))


class SearchSpace:
    """Named positions with 1 to 64 options each, at most 256 of them; immutable.

    Args:
        positions: Position name to options.
        when: For each conditional position, the positions it depends on and their options with which it matters:
            ``{"kernel": {"op": ["conv"]}}``.
        cells: Positions that are the edges of a graph.
        interchangeable: Groups of lists of positions whose order does not matter, such as parallel branches:
            ``[[["a.op", "a.width"], ["b.op", "b.width"]]]``.
        costs: Additive costs, perhaps with bounds.
        forbidden: Options that must not come together: ``[{"norm": "none", "activation": ["gelu", "silu"]}]``.

    Raises:
        InputError: where a position has no option, too many, the same one twice, or one that is no JSON value; for a
            wrong declaration, see `Equality` and `Constraints`; and where no code is feasible.
    """

    def __init__(
        self,
        positions: Mapping[str, Sequence[Any]],
        *,
        when: When | None = None,
        cells: Iterable[Cell] = (),
        interchangeable: Groups = (),
        costs: Iterable[Cost] = (),
        forbidden: Iterable[Forbidden] = (),
    ) -> None:
        if not isinstance(positions, Mapping):
            raise InputError(f"the positions are {positions!r}; give a table of names and their options")
        if not 1 <= len(positions) <= _core.MAX_POSITIONS:
            raise InputError(f"a space has 1 to {_core.MAX_POSITIONS} positions, not {len(positions)}")
        self._digits = {name: _index_options(name, options) for name, options in positions.items()}
        self.positions: dict[str, tuple[Any, ...]] = {name: tuple(options) for name, options in positions.items()}
        self.core = _core.Space([len(options) for options in self.positions.values()])
        self._equality = Equality(self, when, cells, interchangeable)
        self._constraints = Constraints(self, costs, forbidden, self._equality.conditions)

    def __len__(self) -> int:
        """The number of positions, L."""
        return len(self.positions)

    def __iter__(self) -> Iterator[str]:
        return iter(self.positions)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __repr__(self) -> str:
        return f"SearchSpace({len(self)} positions, {self.size:,} codes)"

    @property
    def ordered(self) -> tuple[bool, ...]:
        """Which positions have options in an order: three numbers or more, rising or falling."""
        return tuple(map(_is_ordered, self.positions.values()))

    @property
    def size(self) -> int:
        """How many codes there are, exactly."""
        return self.core.size

    @property
    def size_text(self) -> str:
        """The size as people read it."""
        if not self.is_constrained:
            return f"{self.size:,} codes{', some of them equal' if self.has_twins else ''}"
        equal = ", some of those equal" if self._equality.is_more_than_conditions else ""
        return f"{self.size:,} codes, {self.feasible:,} of them feasible{equal}"

    @property
    def conditional(self) -> tuple[bool, ...]:
        """Which positions have a condition: `active` tells for a code whether they matter."""
        return self._equality.conditional

    @property
    def has_twins(self) -> bool:
        """Whether the space declares codes to be equal."""
        return bool(self._equality)

    @property
    def is_constrained(self) -> bool:
        """Whether the space declares bounds or forbidden combinations."""
        return self._constraints.is_binding

    @property
    def feasible(self) -> int:
        """How many codes are feasible, exactly; all where nothing is declared.

        Of codes that differ only in what does not matter, by conditions, one is counted.
        """
        return self.draws.size

    @property
    def draws(self) -> _core.Space | _core.Feasible:
        """What draws, breeds and lists the feasible codes."""
        return self._constraints.core if self._constraints.core is not None and self.is_constrained else self.core

    @property
    def cost_names(self) -> tuple[str, ...]:
        """The names of the declared costs, sorted."""
        return self._constraints.names

    @property
    def declared(self) -> dict[str, Any]:
        """All that the space declares beside its positions, as a JSON value without empty parts. See `restore`."""
        equal = self._equality.to_dict()
        return {**({"equal": equal} if equal else {}), **self._constraints.to_dict()}

    def canonical(self, codes: Codes) -> Codes:
        """The canonical code of every row of `codes`, shape ``(n, L)``: equal codes have the same.

        Without declarations these are the codes themselves. A cell's table is made on first use, which takes up to a
        few seconds for a cell of 10 million codes.
        """
        return self._equality.core.apply(codes) if self.has_twins else codes

    def active(self, codes: Codes) -> NDArray[np.bool_]:
        """Whether each position of `codes`, shape ``(n, L)``, matters: False where its conditions do not hold."""
        return self._equality.core.active(codes)

    def constrained(self, costs: Iterable[Cost] = (), forbidden: Iterable[Forbidden] = ()) -> SearchSpace:
        """This space with these constraints in place of its own. Raises `InputError` as the class does."""
        equal = self.declared.get("equal", {})
        return SearchSpace(self.positions, **declared_equality(equal), costs=costs, forbidden=forbidden)

    def fits(self, codes: Codes) -> NDArray[np.bool_]:
        """Which of canonical `codes`, shape ``(n, L)``, are feasible, and so are all that are equal to them."""
        draws = self.draws
        return draws.contains(codes) if isinstance(draws, _core.Feasible) else np.ones(len(codes), dtype=np.bool_)

    def cost(self, codes: Codes) -> NDArray[np.float64]:
        """The declared costs of `codes`, shape ``(n, L)``: shape ``(n, costs)``, as `cost_names` has them."""
        return self._constraints.costs(codes)

    def cost_ranges(self) -> dict[str, tuple[float, float]]:
        """The smallest and the largest of every declared cost, over the feasible codes."""
        return self._constraints.ranges()

    def unique_size(self) -> int:
        """How many canonical codes are feasible: at any size where codes are equal by conditions only, else by listing.

        Raises `InputError` where more than 10 million codes would have to be listed.
        """
        if not self.has_twins:
            return self.feasible
        if (counted := self._count_conditional()) is not None:
            return counted
        if self.feasible > COUNTED:
            raise InputError(f"the space has {self.feasible:,} codes; canonical ones are counted up to {COUNTED:,}")
        return sum(map(self._count_canonical, range(0, self.feasible, _COUNTED_AT_ONCE)))

    def encode(self, config: Mapping[str, Any]) -> NDArray[np.uint8]:
        """The NCode of a configuration, shape ``(L,)``.

        Raises `InputError` for a missing or unknown position, and for an unknown option with a list of what is allowed.
        """
        if unknown := [name for name in config if name not in self.positions]:
            raise InputError(f"unknown position {unknown[0]!r}; allowed: {', '.join(map(repr, self.positions))}")
        if missing := [name for name in self.positions if name not in config]:
            raise InputError(f"the configuration lacks position {missing[0]!r}")
        return np.array([self.digit(name, config[name]) for name in self.positions], dtype=np.uint8)

    def decode(self, code: NDArray[np.uint8] | str) -> Config:
        """The configuration of one NCode, given as a vector of shape ``(L,)`` or as text.

        It has every position, also those that do not matter: with their first option if the code is canonical.

        Raises `InputError` where it is no code of this space.
        """
        vector = self.from_text([code])[0] if isinstance(code, str) else np.asarray(code)
        try:
            self.core.validate(vector[np.newaxis])
        except (ValueError, TypeError) as error:
            raise InputError(str(error)) from None
        return {name: options[digit] for (name, options), digit in zip(self.positions.items(), vector, strict=True)}

    def to_text(self, codes: Codes) -> list[str]:
        """The text of every row of `codes`, shape ``(n, L)``: one character a position."""
        return self.core.to_text(codes)

    def from_text(self, texts: Sequence[str]) -> Codes:
        """The codes that `texts` spell, shape ``(n, L)``. Raises `InputError` where one is no code of this space."""
        try:
            return self.core.from_text(texts)
        except ValueError as error:
            raise InputError(str(error)) from None

    def from_joined(self, text: str) -> Codes:
        """The codes whose texts stand in `text` without anything between them: millions of them in a moment. Raises
        `InputError` where they are no codes of this space.
        """
        characters = np.frombuffer(text.encode(), np.uint8)
        if len(characters) % len(self):
            raise InputError(f"{len(characters)} characters are no whole number of codes of {len(self)} positions")
        codes: Codes = _DIGITS[characters.reshape(-1, len(self))]
        try:
            self.core.validate(codes)
        except ValueError as error:
            raise InputError(str(error)) from None
        return codes

    def to_json(self) -> str:
        """The whole space as one line of JSON, the same text for the same space."""
        whole = {"positions": self.positions, **self.declared} if self.declared else self.positions
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> SearchSpace:
        """The space that `to_json` wrote."""
        whole = cast("dict[str, Any]", json.loads(text))
        if isinstance(whole.get("positions"), dict):  # options are lists, so this is no position of that name
            return cls.restore(whole["positions"], whole)
        return cls(whole)

    @classmethod
    def restore(cls, positions: Mapping[str, Sequence[Any]], declared: Mapping[str, Any]) -> SearchSpace:
        """The space of these `positions` that has `declared` this."""
        return cls(positions, **declared_equality(declared.get("equal", {})), **declared_constraints(declared))

    def digit(self, name: str, option: Any) -> int:
        """The number of an option. Raises `InputError` for an unknown one, with a list of what is allowed."""
        digits = self._digits[name]
        try:
            return digits[_option_key(name, option)]
        except KeyError:
            allowed = ", ".join(digits)
            raise InputError(f"position {name!r} has no option {option!r}; allowed: {allowed}") from None

    def _count_conditional(self) -> int | None:
        """The size of a space whose codes are equal by conditions only, if the core can tell."""
        if self._equality.is_more_than_conditions:
            return None
        if self.is_constrained:
            return self.feasible
        try:
            return _core.Feasible(self.core, conditions=self._equality.conditions, canonical=True).size
        except (ValueError, OverflowError):
            return None

    def _count_canonical(self, start: int) -> int:
        """Of the codes from an index on: those that are their own canonical code, one in every class."""
        codes = self.draws.enumerate(start, _COUNTED_AT_ONCE)
        return int((self.canonical(codes) == codes).all(axis=1).sum())


def _is_ordered(options: Sequence[Any]) -> bool:
    if len(options) < 3 or any(isinstance(one, bool) or not isinstance(one, (int, float)) for one in options):
        return False
    steps = [later > earlier for earlier, later in itertools.pairwise(options)]
    return all(steps) or not any(steps)


def _index_options(name: str, options: Sequence[Any]) -> dict[str, int]:
    if isinstance(options, (str, bytes, Mapping)) or not isinstance(options, Sequence):
        raise InputError(f"position {name!r} needs a list of options, not {options!r}")
    if not 1 <= len(options) <= _core.MAX_OPTIONS:
        raise InputError(f"position {name!r} has {len(options)} options; allowed: 1 to {_core.MAX_OPTIONS}")
    digits: dict[str, int] = {}
    for digit, option in enumerate(options):
        key = _option_key(name, option)
        if key in digits:
            raise InputError(f"position {name!r} has option {key} twice; all of them: {_listed(options)}")
        digits[key] = digit
    return digits


def _option_key(name: str, option: Any) -> str:
    try:
        return json.dumps(option, ensure_ascii=False, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):
        raise InputError(
            f"position {name!r} has option {option!r}, which is no JSON value; "
            "allowed: strings, finite numbers, true, false, null, and lists and tables of them"
        ) from None


def _listed(options: Sequence[Any]) -> str:
    return ", ".join(json.dumps(option, ensure_ascii=False) for option in options)
