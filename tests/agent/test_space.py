"""Spaces: configurations to codes and back, and what is said of wrong ones."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncode_search import Cell
from ncode_search.agent.errors import InputError
from ncode_search.agent.space import SearchSpace

SPACE = SearchSpace(
    {"op": ["conv3x3", None, True, 1, 1.0, "1"], "width": [64, 0.1], "layers": [[1, 2], {"a": 1, "b": 2}]}
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.slow
@given(st.data())
def test_any_json_options_round_trip(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.text(), min_size=1, max_size=6, unique=True))
    space = SearchSpace(
        {name: data.draw(st.lists(json_values, min_size=1, max_size=9, unique_by=repr)) for name in names}
    )
    digits = [data.draw(st.integers(0, len(options) - 1)) for options in space.positions.values()]
    code = np.array(digits, dtype=np.uint8)
    assert np.array_equal(space.encode(space.decode(code)), code)
    assert space.decode(space.to_text(code[np.newaxis])[0]) == space.decode(code)
    assert SearchSpace.from_json(space.to_json()) == space


def test_options_that_python_calls_equal_are_told_apart() -> None:
    for digit, option in enumerate(SPACE.positions["op"]):
        config = {"op": option, "width": 0.1, "layers": {"b": 2, "a": 1}}
        assert SPACE.encode(config).tolist() == [digit, 1, 1]
    assert SPACE.size == 6 * 2 * 2
    assert len(SPACE) == 3


@pytest.mark.parametrize(
    ("positions", "said"),
    [
        ({}, "1 to 256 positions"),
        ({"a": []}, "'a' has 0 options; allowed: 1 to 64"),
        ({"a": list(range(65))}, "'a' has 65 options"),
        ({"a": [1, "x", 1]}, "'a' has option 1 twice; all of them: 1, \"x\", 1"),
        ({"a": "abc"}, "'a' needs a list of options"),
        ({"a": [math.nan]}, "'a' has option nan, which is no JSON value"),
        ({"a": [object]}, "'a' has option .*, which is no JSON value; allowed: strings"),
    ],
)
def test_wrong_spaces_name_the_position(positions: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        SearchSpace(positions)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"op": "conv9x9", "width": 64, "layers": [1, 2]},
            "'op' has no option 'conv9x9'; allowed: \"conv3x3\", null, true",
        ),
        ({"op": "1", "width": 64.0, "layers": [1, 2]}, "'width' has no option 64.0; allowed: 64, 0.1"),
        ({"op": "1", "width": 64}, "lacks position 'layers'"),
        (
            {"op": "1", "width": 64, "layers": [1, 2], "deph": 1},
            "unknown position 'deph'; allowed: 'op', 'width', 'layers'",
        ),
    ],
)
def test_wrong_configurations_name_the_position_and_what_is_allowed(config: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        SPACE.encode(config)


def test_joined_texts_are_read_as_single_ones_are() -> None:
    space = SearchSpace({"a": list(range(64)), "b": [1, 2, 3]})
    codes = space.core.random(500, 1)
    np.testing.assert_array_equal(space.from_joined("".join(space.to_text(codes))), codes)
    assert space.from_joined("").shape == (0, 2)
    for text in ("0", "03", "0é", "0 "):
        with pytest.raises(InputError):
            space.from_joined(text)


@pytest.mark.parametrize("text", ["", "00", "0000", "900", "0 0", "0é0"])
def test_texts_that_are_no_codes_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        SPACE.decode(text)


def test_a_vector_that_is_no_code_is_refused() -> None:
    with pytest.raises(InputError):
        SPACE.decode(np.array([0, 2, 0], dtype=np.uint8))
    with pytest.raises(InputError, match="uint8"):
        SPACE.decode([0, 2, 0])  # type: ignore[arg-type]


def test_a_space_that_is_no_table_is_refused() -> None:
    with pytest.raises(InputError, match="give a table of names and their options"):
        SearchSpace([[1, 2]])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cells is Cell.*; it must be a list"):
        SearchSpace({"a": [0, 1]}, cells=Cell({"a": (0, 1)}))  # type: ignore[arg-type]
