"""Functions of users are named so that workers can import them."""

import subprocess
import sys
from pathlib import Path

import pytest

from ncode_search.agent.errors import InputError
from ncode_search.agent.functions import evaluator_table

SCRIPT = """
from ncode_search import Search, SearchSpace

def evaluate(config, context):
    print("noise on standard output")
    return config["a"] + config["b"] / 10

if __name__ == "__main__":
    space = SearchSpace({"a": [0, 1, 2], "b": [0, 1, 2]})
    outcome = Search(space, history="out.db", evaluator=evaluate, ranker="random", trials=5).run()
    print(outcome.completed, outcome.best.value > 0)
"""


def test_a_function_of_a_script_is_evaluated_by_workers(tmp_path: Path) -> None:
    (tmp_path / "my_script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "my_script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "5 True\n"), done.stderr


def test_a_function_of_a_module_is_named_with_the_folder_that_it_is_imported_from(tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("def top(config, context): return 1.0\n")
    (package / "inner.py").write_text("def inner(config, context): return 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    from pkg import top
    from pkg.inner import inner

    assert evaluator_table(top) == ({"kind": "python", "function": "pkg:top"}, tmp_path)
    assert evaluator_table(inner) == ({"kind": "python", "function": "pkg.inner:inner"}, tmp_path)


def test_functions_without_a_name_are_refused() -> None:
    def local(config: dict, context: object) -> float:
        return 1.0

    for function in (local, lambda config, context: 1.0):
        with pytest.raises(InputError, match="define a function at the top of a module"):
            evaluator_table(function)
