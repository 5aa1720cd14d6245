"""Searches by name.

A name is one of `CLASSICS` and `OPTIMIZERS`, searches as their users run them, or says who ranks in the product's own
search: ``pick``, ``ridge`` and ``gp``, a .gguf file or a server's address, or a ranker of `make_ranker`. Two of the
latter's names are classics, too: ``evolution-pool`` is the ranker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from ncode_search.agent.bench.classics import EvolutionSearch, LocalSearch, UniformSearch
from ncode_search.agent.bench.optimizers import OptunaSearch, SmacSearch
from ncode_search.agent.bench.product import ProductSearch
from ncode_search.agent.bench.tasks import Task
from ncode_search.agent.bench.trials import BenchSettings, Method
from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.base import Ranker
from ncode_search.agent.ranking.factory import RANKERS, make_ranker
from ncode_search.agent.space import SearchSpace

CLASSICS: dict[str, Callable[[SearchSpace, int], Method]] = {
    "random": UniformSearch,
    "evolution": EvolutionSearch,
    "local": LocalSearch,
}
OPTIMIZERS = {"tpe": "TPESampler", "optuna-gp": "GPSampler"}
"""Of Optuna."""
YARDSTICKS = ("ridge", "gp")
_ALIASES = {"pick": "random", "evolution-pool": "evolution"}

_NEEDS = {
    "ridge": ("sklearn", "scipy"),
    "gp": ("sklearn", "scipy"),
    "tpe": ("optuna",),
    "optuna-gp": ("optuna", "scipy", "torch"),
    "smac": ("smac",),
}
_BROUGHT_BY = {"smac": "'ncode-search[smac]'", "torch": "torch"}
"""What to install for a package, where it is not the extra ``bench``."""


def names() -> list[str]:
    """All names that are no paths."""
    rankers = [name for name in RANKERS if name not in CLASSICS]
    return [*rankers, *YARDSTICKS, *_ALIASES, *CLASSICS, *OPTIMIZERS, "smac"]


def check_methods(methods: Sequence[str]) -> None:
    """Raise `InputError` for a name that is none, or given twice, or whose packages are not installed."""
    if not methods:
        raise InputError("--rankers is empty; name at least one, such as evolution")
    if twice := [name for at, name in enumerate(methods) if name in methods[:at]]:
        raise InputError(f"--rankers has {twice[0]!r} twice; name each once")
    for name in methods:
        check_method(name)


def check_method(name: str) -> None:
    """Raise `InputError` for a name that is none, for a file that is not there, and for missing packages."""
    if name not in names() and not _is_model(name):
        raise InputError(
            f"there is no method {name!r}; choose from {', '.join(names())}, or give the path of a .gguf or an address"
        )
    if name.endswith(".gguf") and not Path(name).is_file():
        raise InputError(f"{name}: there is no such file; check the path")
    require(_NEEDS.get(name, ()), name)


def _is_model(name: str) -> bool:
    """A GGUF file, or the address of a server that has one."""
    return name.endswith(".gguf") or name.startswith(("http://", "https://"))


def require(packages: Sequence[str], by: str) -> None:
    """Raise `InputError` where a package that `by` needs is missing."""
    if missing := [package for package in packages if find_spec(package) is None]:
        install = _BROUGHT_BY.get(missing[0], "'ncode-search[bench]'")
        raise InputError(f"{by} needs the package {missing[0]}, which is not installed: pip install {install}")


def make_method(name: str, task: Task, settings: BenchSettings, seed: int) -> Method:
    """The search `name`, ready to be asked. Raises `InputError` where its files are wrong."""
    space = task.table.space
    if classic := CLASSICS.get(name):
        return classic(space, seed)
    if name in OPTIMIZERS:
        return OptunaSearch(space, seed, OPTIMIZERS[name])
    if name == "smac":
        return SmacSearch(space, seed, settings.trials)
    ranker = ranker_of(name, space)
    ranker.load()
    return ProductSearch(task, ranker, settings, seed)


def ranker_of(name: str, space: SearchSpace) -> Ranker:
    """The ranker `name`, not loaded yet; models get one thread, because the searches share the cores."""
    if name in YARDSTICKS:
        from ncode_search.agent.bench.yardsticks import GpRanker, RidgeRanker

        return RidgeRanker(space) if name == "ridge" else GpRanker(space)
    if _is_model(name):
        return make_ranker("llama", space, model=name, threads=1)
    return make_ranker(_ALIASES.get(name, name), space, threads=1)
