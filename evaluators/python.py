"""``kind = "python"``: a function of the user's own scores the configurations.

``function = "my_module:evaluate"`` imports a module, from the folder of the search file first. ``function =
"path/to/script.py:evaluate"`` runs a file of that folder as a module of its own; what stands under
``if __name__ == "__main__":`` does not run.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ncode_search.evaluators.base import Context, EvaluatorError, Result

SCRIPT_NAME = "__ncode_script__"
"""The module name of a file. Like multiprocessing's ``__mp_main__``: it is not ``__main__``."""


@dataclass(frozen=True, kw_only=True)
class PythonEvaluator:
    """Calls ``function(config, context)``. The fields are the TOML keys."""

    folder: InitVar[Path]

    function: str
    """``module:name``, or ``path/to/script.py:name`` (in the search file's folder)."""
    cost_function: str | None = None
    """Another, ``cost(config) -> Mapping[str, float]``: what configurations cost, for measured costs."""

    _function: Callable[[Mapping[str, Any], Context], float | Result] = field(init=False, repr=False, compare=False)
    _cost: Callable[[Mapping[str, Any]], Mapping[str, float]] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self, folder: Path) -> None:
        object.__setattr__(self, "_function", load_function(self.function, folder))
        cost = self.cost_function
        object.__setattr__(self, "_cost", None if cost is None else load_function(cost, folder, "cost_function"))

    def __call__(self, config: Mapping[str, Any], context: Context) -> float | Result:
        return self._function(config, context)

    def cost(self, config: Mapping[str, Any]) -> Mapping[str, float]:
        """What `cost_function` says. Raises `EvaluatorError` where there is none."""
        if self._cost is None:
            raise EvaluatorError("[evaluator] cost_function is missing; name the function that tells measured costs")
        return self._cost(config)


def load_function(function: str, folder: Path, key: str = "function") -> Callable[..., Any]:
    """Import what `function` names, as the value of `key`.

    Raises:
        EvaluatorError: when the module cannot be imported or has no such function.
    """
    where = f'{key} = "{function}"'
    source, name = _parted(where, function)
    if source.endswith(".py"):
        module = _run_file(where, _script(where, source, folder))
    else:
        module = _import_module(where, source, folder.absolute())
    return _function_of(where, module, name)


def source_of(function: str, folder: Path) -> str:
    """Which code `load_function` would import, as a path as far as that can be told without importing anything.

    Raises `EvaluatorError` where the text names none that may be.
    """
    where = f'function = "{function}"'
    source, _ = _parted(where, function)
    if source.endswith(".py"):
        return str(_script(where, source, folder).resolve())
    local = _local_module(source, folder.absolute())
    return (
        str(_no_way_out(where, local, folder).resolve()) if local else f"{source}, installed at {_installed_at(source)}"
    )


def _parted(where: str, function: str) -> tuple[str, str]:
    source, _, name = function.rpartition(":")
    if not source or not name.isidentifier():
        raise _error(where, 'must be "module:name" or "path/to/script.py:name"')
    return source, name


def _script(where: str, source: str, folder: Path) -> Path:
    """The file of a script, which must lie in the folder: a search file must not have any file of the machine run."""
    inside, file = os.path.normpath(folder.absolute()), os.path.normpath(folder.absolute() / source)
    if not Path(file).is_relative_to(inside):
        raise _error(where, f"{file} is not in {inside}; put it there, or install it and name its module")
    return _no_way_out(where, Path(file), folder)


def _no_way_out(where: str, file: Path, folder: Path) -> Path:
    """The file itself, unless it is elsewhere by a symbolic link: whoever reads the search file sees where it is."""
    if not file.resolve().is_relative_to(folder.resolve()):
        raise _error(where, f"{file} leads out of {folder} to {file.resolve()}; put it there, or install its module")
    return file


def _installed_at(module: str) -> str:
    spec = importlib.util.find_spec(module.partition(".")[0])
    place = None if spec is None else spec.origin or next(iter(spec.submodule_search_locations or []), None)
    return place or "no place that is known"


def _import_module(where: str, name: str, folder: Path) -> ModuleType:
    local = _local_module(name, folder)
    if local is None and _is_missing(name):
        raise _error(where, f"there is no module {name} in {folder}, and none is installed; correct the name")
    if local is not None:
        _no_way_out(where, local, folder)
    _import_first_from(folder)
    with _importing(where):
        module = importlib.import_module(name)
    if local is not None and Path(module.__file__ or "").resolve() != local.resolve():
        raise _error(where, f'the name {name} is taken by {module}; rename {local} or give "{local}:..."')
    return module


def _local_module(name: str, folder: Path) -> Path | None:
    """The file of the module, if it lies in `folder`."""
    base = folder.joinpath(*name.split("."))
    candidates = (base / "__init__.py", base.with_name(base.name + ".py"))
    return next((file for file in candidates if file.is_file()), None)


def _is_missing(name: str) -> bool:
    """Whether the first part of a module's name is found nowhere: the rest needs imports, which may fail otherwise."""
    top = name.partition(".")[0]
    return top not in sys.modules and (not top or importlib.util.find_spec(top) is None)


def _run_file(where: str, file: Path) -> ModuleType:
    loaded = sys.modules.get(SCRIPT_NAME)
    if loaded is not None and loaded.__file__ == str(file):
        return loaded
    if not file.is_file():
        raise _error(where, f"there is no file {file}; correct the path")
    _import_first_from(file.parent)
    spec = importlib.util.spec_from_file_location(SCRIPT_NAME, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Before it runs: dataclasses and pickle look their module up by its name.
    sys.modules[SCRIPT_NAME] = module
    with _importing(where):
        spec.loader.exec_module(module)
    return module


def _import_first_from(folder: Path) -> None:
    if sys.path[:1] != [str(folder)]:
        sys.path.insert(0, str(folder))
        # A file written a moment ago may be younger than what the import system remembers of its folder.
        importlib.invalidate_caches()


@contextmanager
def _importing(where: str) -> Iterator[None]:
    """Turn whatever the user's module raises into one line. SystemExit too: scripts call ``sys.exit``."""
    try:
        yield
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise _error(where, f"importing it raised {reason}; repair the module") from error


def _function_of(where: str, module: ModuleType, name: str) -> Callable[..., Any]:
    if not hasattr(module, name):
        close = difflib.get_close_matches(name, vars(module), n=1)
        mend = f'did you mean "{close[0]}"?' if close else "define it or correct the name"
        raise _error(where, f"{module.__file__ or module.__name__} has no {name}; {mend}")
    found = getattr(module, name)
    if not callable(found):
        raise _error(where, f"{name} is a {type(found).__name__}, not a function; name a function")
    return found  # type: ignore[no-any-return]


def _error(where: str, text: str) -> EvaluatorError:
    return EvaluatorError(f"[evaluator] {where}: {text}")
