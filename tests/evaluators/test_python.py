"""The user's own functions: where they are looked for, and what is said when they cannot be had."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ncode_search.evaluators.base import Context, EvaluatorError, Pruned, Result
from ncode_search.evaluators.python import SCRIPT_NAME, PythonEvaluator

MakeContext = Callable[..., Context]

MODULE = """
import dataclasses
from ncode_search.evaluators.base import Pruned, Result
@dataclasses.dataclass
class Local:
    number: int
limit = 3
def evaluate(config, context):
    return Local(config["x"] + context.trial).number
def scored(config, context):
    return Result(1.0, {"cost": 2.0})
def stops(config, context):
    raise Pruned("enough")
def helped(config, context):
    import helper_for_test
    return helper_for_test.VALUE
if __name__ == "__main__":
    raise SystemExit("the guarded part ran")
"""


@pytest.fixture(autouse=True)
def _clean_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def _evaluator(folder: Path, function: str) -> PythonEvaluator:
    return PythonEvaluator(function=function, folder=folder)


def _write(folder: Path, text: str = MODULE, name: str = "module_of_test.py") -> Path:
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file


@pytest.mark.parametrize("source", ["module_of_test", "module_of_test.py", "{}/module_of_test.py"])
def test_calls_the_function(tmp_path: Path, make_context: MakeContext, source: str) -> None:
    _write(tmp_path)
    _write(tmp_path, "VALUE = 7.0", "helper_for_test.py")
    source = source.format(tmp_path)
    assert _evaluator(tmp_path, f"{source}:evaluate")({"x": 1}, make_context(trial=4)) == 5
    assert _evaluator(tmp_path, f"{source}:scored")({}, make_context()) == Result(1.0, {"cost": 2.0})
    assert _evaluator(tmp_path, f"{source}:helped")({}, make_context()) == 7.0
    with pytest.raises(Pruned):
        _evaluator(tmp_path, f"{source}:stops")({}, make_context())


def test_packages_and_installed_modules(tmp_path: Path, make_context: MakeContext) -> None:
    _write(tmp_path, "", "package_of_test/__init__.py")
    _write(tmp_path, name="package_of_test/inner.py")
    assert _evaluator(tmp_path, "package_of_test.inner:evaluate")({"x": 1}, make_context()) == 1
    assert _evaluator(tmp_path, "math:hypot")(3, 4) == 5  # type: ignore[arg-type]


def test_the_folder_comes_before_what_is_installed(
    tmp_path: Path, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "colorsys", sys)  # so that it is there again afterwards
    monkeypatch.delitem(sys.modules, "colorsys")
    _write(tmp_path, name="colorsys.py")
    assert _evaluator(tmp_path, "colorsys:evaluate")({"x": 1}, make_context()) == 1


def test_a_script_knows_its_own_file_and_name(tmp_path: Path, make_context: MakeContext) -> None:
    file = _write(tmp_path, "def where(config, context):\n    return __file__, __name__")
    found = _evaluator(tmp_path, f"{file}:where")({}, make_context())
    assert found == (str(file), SCRIPT_NAME)  # type: ignore[comparison-overlap]


def _refused(folder: Path, function: str) -> str:
    with pytest.raises(EvaluatorError) as error:
        _evaluator(folder, function)
    start = f'[evaluator] function = "{function}": '
    assert str(error.value).startswith(start)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(start)


@pytest.mark.parametrize("function", ["", "evaluate", ":evaluate", "module:", "module:a.b", "module:a()"])
def test_wrong_form(tmp_path: Path, function: str) -> None:
    assert _refused(tmp_path, function) == 'must be "module:name" or "path/to/script.py:name"'


@pytest.mark.parametrize("module", ["no_such_module", "no_such_package.module", ".relative"])
def test_no_such_module(tmp_path: Path, module: str) -> None:
    expected = f"there is no module {module} in {tmp_path}, and none is installed; correct the name"
    assert _refused(tmp_path, f"{module}:evaluate") == expected


def test_no_such_submodule(tmp_path: Path) -> None:
    assert "ModuleNotFoundError: No module named 'json.nothing'" in _refused(tmp_path, "json.nothing:evaluate")


def test_no_such_file(tmp_path: Path) -> None:
    assert _refused(tmp_path, "none.py:evaluate") == f"there is no file {tmp_path}/none.py; correct the path"


def test_no_such_function(tmp_path: Path) -> None:
    file = _write(tmp_path)
    assert _refused(tmp_path, "module_of_test:evalaute") == f'{file} has no evalaute; did you mean "evaluate"?'
    assert _refused(tmp_path, "module_of_test:xyz") == f"{file} has no xyz; define it or correct the name"


def test_not_callable(tmp_path: Path) -> None:
    _write(tmp_path)
    assert _refused(tmp_path, "module_of_test:limit") == "limit is a int, not a function; name a function"


@pytest.mark.parametrize("source", ["module_of_test", "module_of_test.py"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def", "SyntaxError: "),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
    ],
)
def test_the_import_raises(tmp_path: Path, source: str, text: str, reason: str) -> None:
    _write(tmp_path, text)
    assert f"importing it raised {reason}" in _refused(tmp_path, f"{source}:evaluate")


def test_a_name_that_is_taken(tmp_path: Path) -> None:
    file = _write(tmp_path, name="json.py")
    assert "the name json is taken by <module 'json' from" in _refused(tmp_path, "json:evaluate")
    assert f'rename {file} or give "{file}:..."' in _refused(tmp_path, "json:evaluate")
