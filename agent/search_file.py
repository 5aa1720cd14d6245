"""The search file: TOML tables to checked settings.

Every error is one line that names the file, the table and key, what is wrong and the mend.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncode_search.agent import run_files
from ncode_search.agent.errors import InputError
from ncode_search.agent.evaluator_cost import CostSource
from ncode_search.agent.observations import Codes
from ncode_search.agent.observer import Observer
from ncode_search.agent.ranking import RANKERS
from ncode_search.agent.ranking.address import is_url
from ncode_search.agent.search import Search
from ncode_search.agent.settings import NotifySettings, RankerSettings, SearchSettings
from ncode_search.agent.space import SearchSpace
from ncode_search.agent.space_file import space_of
from ncode_search.evaluators.options import OptionError, check_options, suggest
from ncode_search.evaluators.registry import KINDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLES = ("search", "space", "equal", "costs", "forbidden", "evaluator", "ranker", "notify")


@dataclass(frozen=True)
class Overrides:
    """What the command line says instead of the file; None: as the file says."""

    trials: int | None = None
    workers: int | None = None
    seed: int | None = None
    history: Path | None = None
    ranker: str | None = None
    """A ranker's kind, a path to a GGUF file, or a server's address."""


NOTHING = Overrides()


@dataclass(frozen=True)
class SearchFile:
    """A search as its file describes it."""

    path: Path
    history: Path
    settings: SearchSettings
    space: SearchSpace
    evaluator: Mapping[str, Any]
    ranker: RankerSettings
    notify: NotifySettings

    @classmethod
    def load(cls, path: Path, by: Overrides = NOTHING) -> SearchFile:
        """Read and check a search file; `by`: what the command line says. Raises `InputError` for anything wrong."""
        with _of_file(path):
            file = cls._from_tables(path, _read(path), by.history)
        return file._overridden(by)

    def _overridden(self, by: Overrides) -> SearchFile:
        changes = {name: value for name in ("trials", "workers", "seed") if (value := getattr(by, name)) is not None}
        if by.workers is not None:
            changes["workers_per_device"] = None
        try:
            settings = dataclasses.replace(self.settings, **changes)
        except InputError as error:
            raise InputError(f"--{error}") from None
        ranker = self.ranker if by.ranker is None else _ranker_from_text(self.ranker, by.ranker)
        return dataclasses.replace(self, settings=settings, ranker=ranker)

    def to_search(self, observer: Observer | None = None, plan: Codes | None = None) -> Search:
        """The search itself; `plan`: codes to evaluate in place of what would be proposed."""
        return Search(
            self.space,
            history=self.history,
            evaluator=self.evaluator,
            ranker_settings=self.ranker,
            notify=self.notify,
            folder=self.path.parent,
            observer=observer,
            plan=plan,
            **dataclasses.asdict(self.settings),
        )

    @classmethod
    def _from_tables(cls, path: Path, tables: Mapping[str, Any], history: Path | None) -> SearchFile:
        _check_tables(tables)
        search = dict(tables.get("search", {}))
        name = search.pop("history", None)
        if not isinstance(name, str) or not name:
            raise InputError('[search] history is missing; say where to keep the results: history = "results.db"')
        history = history or path.parent / name
        run_files.check(history)
        settings = _settings("search", SearchSettings, search)
        ranker = _settings("ranker", RankerSettings, tables.get("ranker", {}))
        evaluator = _evaluator(tables.get("evaluator", {}))
        space = space_of(tables, CostSource(evaluator, path.parent, settings, history))
        notify = _notify(tables.get("notify", {}), path.parent)
        return cls(path, history, settings, space, evaluator, ranker, notify)


def load_space(path: Path) -> SearchSpace:
    """The space of a search file, which may lack all else. Raises `InputError` for anything wrong in it."""
    with _of_file(path):
        tables = _read(path)
        _check_tables(tables)
        return space_of(tables, _cost_source(path, tables))


@contextmanager
def _of_file(path: Path) -> Iterator[None]:
    """Errors say which file they are in."""
    try:
        yield
    except (InputError, OptionError) as error:
        raise InputError(f"{path}: {error}") from None
    except RecursionError:
        raise InputError(f"{path}: has lists or tables hundreds deep; mend that place") from None


def _cost_source(path: Path, tables: Mapping[str, Any]) -> CostSource:
    """Of a file that may have neither an evaluator nor a history."""
    is_measured = any(
        isinstance(table, Mapping) and table.get("measured") for table in tables.get("costs", {}).values()
    )
    if not is_measured:
        return CostSource({}, path.parent)
    search = dict(tables.get("search", {}))
    name = search.pop("history", None)
    history = path.parent / name if isinstance(name, str) and name else None
    settings = _settings("search", SearchSettings, search)
    return CostSource(_evaluator(tables.get("evaluator", {})), path.parent, settings, history)


def _check_tables(tables: Mapping[str, Any]) -> None:
    for name, table in tables.items():
        if name == "forbidden":
            continue  # the one that is a list of tables
        if name not in TABLES:
            raise InputError(f"[{name}] is no table of a search file; {suggest(name, TABLES)}")
        if not isinstance(table, Mapping):
            raise InputError(f"{name} is {table!r}; it must be a table: write [{name}] above its keys")


def _read(path: Path) -> dict[str, Any]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe without a writer would be waited for, for ever
            raise InputError("is no regular file; give a TOML file")
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("there is no such file; check the path") from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror}); check the path and its permissions") from None
    except UnicodeDecodeError:
        raise InputError("is no text in UTF-8; give a TOML file") from None
    except ValueError as error:  # most are TOMLDecodeError; a number of thousands of digits is not
        raise InputError(f"is no valid TOML: {error}; mend that place") from None
    return tables


def _settings(table: str, cls: type[Any], given: Mapping[str, Any]) -> Any:
    check_options(cls, given, where=f"[{table}]")
    try:
        return cls(**given)
    except InputError as error:
        raise InputError(f"[{table}] {error}") from None


def _notify(table: Mapping[str, Any], folder: Path) -> NotifySettings:
    settings: NotifySettings = _settings("notify", NotifySettings, table)
    if settings.command is not None:
        program = shlex.split(settings.command)[0]
        # As it will be looked up: names on the search path, paths from the file's folder.
        if shutil.which(str(folder.absolute() / program) if "/" in program else program) is None:
            raise InputError(f"[notify] command: there is no program {program}; correct its name or make it executable")
    return settings


def _evaluator(table: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        wrong = f'kind = "{kind}" is unknown' if "kind" in table else "kind is missing"
        raise InputError(f"[evaluator] {wrong}; {suggest(str(kind), KINDS)}")
    for key, value in table.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise InputError(f"[evaluator] {key} = {value} cannot be kept; give text or a finite number") from None
    return table


def _ranker_from_text(settings: RankerSettings, text: str) -> RankerSettings:
    if text in RANKERS:
        return dataclasses.replace(settings, kind=text, model=None)
    model = text if is_url(text) else str(Path(text).absolute())
    return dataclasses.replace(settings, kind="llama", model=model)
