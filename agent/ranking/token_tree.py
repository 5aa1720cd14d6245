"""The tokens of many candidates as one tree, so that a prefix that several share is decoded once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

Tokens = tuple[int, ...]
PROMPT = -1
"""The row whose logits predict a candidate's first token: the prompt's last."""


@dataclass
class Row:
    """One token to decode."""

    token: int
    depth: int
    """0 for a candidate's first token."""
    branches: list[int]
    """The branches that pass through it."""


@dataclass
class TokenTree:
    """Rows to decode, parents before children, and where each branch's log-probabilities are found.

    A branch of k tokens needs k - 1 rows: nothing follows its last token.
    """

    branches: list[Tokens] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    targets: list[tuple[int, int, int]] = field(default_factory=list)
    """(row, branch, token): `token` is what `branch` has after `row`. Sorted by row, with `PROMPT` first."""

    def targets_of(self, first: int, stop: int) -> list[tuple[int, int, int]]:
        """The targets of rows `first` to `stop` - 1."""
        ends = (bisect_left(self.targets, row, key=lambda target: target[0]) for row in (first, stop))
        return self.targets[slice(*ends)]


def build_tree(branches: Sequence[Tokens]) -> TokenTree:
    """The tree of distinct `branches`, each of one token or more."""
    tree = TokenTree(list(branches))
    seen: dict[Tokens, int] = {(): PROMPT}
    for index, tokens in enumerate(branches):
        for depth, token in enumerate(tokens):
            tree.targets.append((seen[tokens[:depth]], index, token))
            if depth < len(tokens) - 1:
                row = seen.setdefault(tokens[: depth + 1], len(tree.rows))
                if row == len(tree.rows):
                    tree.rows.append(Row(token, depth, []))
                tree.rows[row].branches.append(index)
    tree.targets.sort()
    return tree


def grouped(branches: Sequence[Tokens], most_branches: int, most_rows: int) -> Iterator[TokenTree]:
    """Trees over all of the sorted `branches`, each within both limits (a branch alone may exceed `most_rows`).

    Neighbours share the most, since they are sorted. Rows are counted without sharing more than the neighbour's prefix.
    """
    group: list[Tokens] = []
    rows = 0
    for tokens in branches:
        new = len(tokens) - 1 - (_shared(group[-1], tokens) if group else 0)
        if group and (len(group) == most_branches or rows + new > most_rows):
            yield build_tree(group)
            group, rows, new = [], 0, len(tokens) - 1
        group.append(tokens)
        rows += max(new, 0)
    if group:
        yield build_tree(group)


def _shared(one: Tokens, other: Tokens) -> int:
    count = 0
    for a, b in zip(one[:-1], other[:-1], strict=False):
        if a != b:
            break
        count += 1
    return count
