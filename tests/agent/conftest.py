"""A search over the functions of `trial_functions`, with a witness file beside its history."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ncode_search import Search, SearchSpace
from ncode_search.agent.search_file import SearchFile

HERE = Path(__file__).parent
SPACE = SearchSpace({"a": [0, 1, 2, 3], "b": [0, 1, 2, 3], "c": [0, 1, 2, 3]})


@pytest.fixture
def load_file(tmp_path: Path) -> Callable[[str], SearchFile]:
    """Reads a search file of this text."""

    def load(text: str) -> SearchFile:
        path = tmp_path / "search.toml"
        path.write_text(text)
        return SearchFile.load(path)

    return load


@pytest.fixture
def witness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "witness.log"
    path.touch()
    monkeypatch.setenv("NCODE_TEST_LOG", str(path))
    return path


@pytest.fixture
def make_search(tmp_path: Path, witness: Path) -> Callable[..., Search]:
    def make(function: str | None = "score", space: SearchSpace = SPACE, **settings: Any) -> Search:
        evaluator = None if function is None else {"kind": "python", "function": f"trial_functions:{function}"}
        settings = {"ranker": "random", "history": tmp_path / "search.db", **settings}
        return Search(space, evaluator=evaluator, folder=HERE, **settings)

    return make
