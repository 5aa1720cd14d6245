"""Trees against the plain meaning: every token of every branch once, each prefix once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ncode_search.agent.ranking.token_tree import PROMPT, Tokens, build_tree, grouped

branches = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple), min_size=1, max_size=20, unique=True
).map(sorted)


@given(branches)
def test_every_prefix_is_one_row(tokens: list[Tokens]) -> None:
    tree = build_tree(tokens)
    prefixes = {branch[:end] for branch in tokens for end in range(1, len(branch))}
    assert len(tree.rows) == len(prefixes)
    for index, branch in enumerate(tokens):
        path = [row for row in tree.rows if index in row.branches]
        assert [row.token for row in path] == list(branch[:-1])
        assert [row.depth for row in path] == list(range(len(branch) - 1))


@given(branches)
def test_every_token_is_a_target_once(tokens: list[Tokens]) -> None:
    tree = build_tree(tokens)
    for index, branch in enumerate(tokens):
        assert [token for _, at, token in tree.targets if at == index] == list(branch)
    parts = [tree.targets_of(row, row + 1) for row in range(PROMPT, len(tree.rows))]
    assert [target for part in parts for target in part] == tree.targets


@given(branches, st.integers(1, 5), st.integers(5, 12))
def test_groups_keep_the_order_and_the_limits(tokens: list[Tokens], most: int, rows: int) -> None:
    groups = list(grouped(tokens, most, rows))
    assert [branch for group in groups for branch in group.branches] == tokens
    assert all(len(group.branches) <= most and len(group.rows) <= rows for group in groups)
