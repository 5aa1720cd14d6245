"""A search over the functions of `trial_functions`, with a witness file beside its history; races of processes."""

import subprocess
import sys
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


@pytest.fixture
def raced() -> Callable[..., list[int]]:
    """What racers of `history_writers`, a process an argument, print together if all begin at the same time."""

    def race(name: str, path: Path, *arguments: int) -> list[int]:
        command, pipe = [sys.executable, str(HERE / "history_writers.py"), name, str(path)], subprocess.PIPE
        racers = [subprocess.Popen([*command, str(one)], text=True, stdin=pipe, stdout=pipe) for one in arguments]
        for racer in racers:
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        printed = [racer.communicate(timeout=60)[0] for racer in racers]
        assert [racer.returncode for racer in racers] == [0] * len(racers)
        return sorted(int(number) for text in printed for number in text.split())

    return race
