"""Nothing that is loaded is executed, and nothing leaves the folder of a run."""

import ast
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ncode_search.agent import run_files, trial_folders
from ncode_search.agent.backup import Backup
from ncode_search.agent.errors import HistoryError
from ncode_search.agent.history import History, Objective
from ncode_search.agent.run_log import written

ROOT = Path(__file__).parent.parent
ROOMS = ("agent", "evaluators", "bindings", "benchmarks", "examples")
FILES = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))

UNSAFE_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "yaml",
    "jsonpickle",
}
HARMLESS_NAMES = {"UnpicklingError"}
"""Of those modules: an exception that weights-only loading raises."""
UNSAFE_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "os.spawnl", "commands.getoutput",
    "subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell", "tempfile.mktemp",
    "pandas.read_pickle", "pd.read_pickle", "numpy.fromregex", "torch.hub.load", "torch.jit.load",
}  # fmt: skip
UNSAFE_ARGUMENTS = {("shell", True), ("allow_pickle", True), ("trust_remote_code", True), ("weights_only", False)}
MODULES_RUN = {"evaluators/python.py"}
"""Where a user's module may be executed: it is what they asked for."""


def name_of(node: ast.expr) -> str:
    """``a.b.c`` of such an expression."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def findings(tree: ast.AST) -> Iterator[str]:
    """What could execute what is loaded."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {one.name}" for one in node.names if one.name.partition(".")[0] in UNSAFE_MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in UNSAFE_MODULES:
            yield from (f"from {node.module} import {one.name}" for one in node.names if one.name not in HARMLESS_NAMES)
        elif isinstance(node, ast.Call):
            yield from unsafe_call(node)


def unsafe_call(call: ast.Call) -> Iterator[str]:
    name = name_of(call.func)
    given = {(one.arg, one.value.value) for one in call.keywords if isinstance(one.value, ast.Constant)}
    if name in UNSAFE_CALLS or name.endswith(".exec_module"):
        yield name
    if name == "torch.load" and ("weights_only", True) not in given:
        yield "torch.load without weights_only=True"
    for argument in given & UNSAFE_ARGUMENTS:
        yield "{}={}".format(*argument)
    for one in call.keywords:
        if one.arg in ("shell", "allow_pickle", "trust_remote_code") and not isinstance(one.value, ast.Constant):
            yield f"{one.arg} of what is not known here"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_in_the_tree_executes_what_it_loads(file: Path) -> None:
    found = list(findings(ast.parse(file.read_text())))
    if str(file.relative_to(ROOT)) in MODULES_RUN:
        assert found == ["spec.loader.exec_module"]
    else:
        assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from yaml import load",
        "import joblib.memory",
        "eval('1')",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "subprocess.run(command, shell=True)",
        "os.system(command)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "spec.loader.exec_module(module)",
    ],
)
def test_the_search_for_such_places_finds_them(line: str) -> None:
    assert list(findings(ast.parse(line)))


# What dependencies do, seen by the interpreter itself

GUARDED = """
import os, sys
def guard(event, arguments):
    if event == "pickle.find_class" or event in ("os.system", "os.exec"):
        os.write(2, f"UNSAFE {event} {arguments}\\n".encode())
        os._exit(99)
    if event == "subprocess.Popen" and "-c" in list(arguments[1])[:2] and str(arguments[0]).endswith("sh"):
        os.write(2, f"UNSAFE shell {arguments}\\n".encode())
        os._exit(99)
sys.addaudithook(guard)
"""

TOML = """
[search]
history = "search.db"
trials = 14
workers = 2
[space]
a = [0, 1, 2, 3]
b = [0, 1, 2, 3]
c = [0, 1, 2, 3]
[evaluator]
kind = "python"
function = "mine:evaluate"
[ranker]
kind = "embedded"
startup = 4
"""
MINE = """
import pathlib, time
def evaluate(config, context):
    if context.restore() is None:
        context.checkpoint({"epoch": 1, "numbers": [0.5]})
    (context.kept / "adapter").write_text("x")
    return sum(config.values())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "search.toml").write_text(TOML)
    (folder / "mine.py").write_text(MINE)
    return folder


def ncode(folder: Path, *arguments: str, before: str = "", umask: int = -1) -> subprocess.CompletedProcess[str]:
    """``ncode`` with a line of Python run before it, also in the processes that it starts."""
    (folder / "sitecustomize.py").write_text(before)
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "500"}
    return subprocess.run(
        [sys.executable, "-m", "ncode_search.agent", *arguments], cwd=folder, env=environment,
        capture_output=True, text=True, timeout=100, check=False, umask=umask,
    )  # fmt: skip


def test_no_dependency_unpickles_or_asks_a_shell_during_a_search(folder: Path) -> None:
    done = ncode(folder, "run", "search.toml", before=GUARDED)
    assert done.returncode == 0, done
    assert "UNSAFE" not in done.stderr
    broken = ncode(folder, "status", "search.db", before=GUARDED + "import pickle, collections\n"
                   "pickle.loads(pickle.dumps(collections.OrderedDict()))\n")  # fmt: skip
    assert broken.returncode == 99, "the guard must see such things"


# Which code is imported


def test_run_says_which_code_it_is_about_to_import(folder: Path) -> None:
    (folder / "mine.py").write_text("raise OSError('it ran')\n")
    done = ncode(folder, "run", "search.toml")
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    assert f"imports {folder}/mine.py for mine:evaluate" in said, done
    assert said.index("imports") < said.index("it ran")
    assert not (folder / "search.db").exists()


@pytest.mark.parametrize("path", ["../other.py", "{outside}/other.py", "sub/../../other.py"])
def test_a_script_outside_of_the_folder_is_refused_before_it_runs(folder: Path, path: str) -> None:
    outside = folder.parent
    (outside / "other.py").write_text("open('ran', 'w')\ndef evaluate(config, context):\n    return 0.5\n")
    text = TOML.replace("mine:evaluate", path.format(outside=outside) + ":evaluate")
    (folder / "search.toml").write_text(text)
    done = ncode(folder, "run", "search.toml")
    assert done.returncode == 2
    assert "put it there, or install it and name its module" in " ".join(done.stderr.split())
    assert not list(outside.rglob("ran"))


# Files


@pytest.mark.slow
def test_files_are_made_with_the_users_umask(folder: Path) -> None:
    for mask in (0o077, 0o002):
        name = f"h{mask:o}.db"
        done = ncode(folder, "run", "search.toml", "--ranker", "random", "--history", name, umask=mask)
        assert done.returncode == 0, done
        Backup(folder / name).run()  # in this process, whose umask it has
        made = [file for file in folder.rglob("*") if name in str(file) and "backup" not in file.name]
        assert {file.name for file in made} >= {name, f"{name}.log", "adapter"}
        for file in made:
            wanted = 0o777 if file.is_dir() else 0o666
            assert stat.S_IMODE(file.stat().st_mode) == wanted & ~mask, file


def open_history(history: Path) -> None:
    History.open(history, {"a": [1, 2]}, Objective()).close()


@pytest.mark.parametrize(
    "suffix", ["", "-wal", "-shm", "-journal", ".log", ".log.1", ".backup", ".backup.1", ".trials"]
)
def test_a_link_out_of_the_folder_is_refused_in_one_line(tmp_path: Path, suffix: str) -> None:
    folder, victim = tmp_path / "run", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("precious")
    history = folder / "h.db"
    (folder / f"h.db{suffix}").symlink_to(victim)
    with pytest.raises(
        HistoryError, match=r"h\.db.*: is a symbolic link to .*victim, out of the run's folder; remove it"
    ):
        open_history(history)
    assert victim.read_text() == "precious"
    assert {file.name for file in folder.iterdir()} == {f"h.db{suffix}"}


def test_a_trial_folder_that_leads_out_is_refused_and_one_planted_meanwhile_is_removed(tmp_path: Path) -> None:
    folder, victim = tmp_path / "run", tmp_path / "victim"
    victim.mkdir(parents=True)
    (victim / "file").write_text("precious")
    history = folder / "h.db"
    planted = trial_folders.folder_of(history, 7)
    planted.parent.mkdir(parents=True)
    planted.symlink_to(victim)
    with pytest.raises(HistoryError, match="is a symbolic link to"):
        open_history(history)
    trial_folders.clear(history, 7)
    assert not planted.is_symlink()
    assert (victim / "file").read_text() == "precious"
    open_history(history)


def test_a_link_within_the_folder_is_the_users_own_affair(tmp_path: Path) -> None:
    (tmp_path / "h.db").symlink_to(tmp_path / "data.db")
    open_history(tmp_path / "h.db")
    assert (tmp_path / "data.db").stat().st_size


def test_a_link_that_appears_while_a_search_runs_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    history = tmp_path / "h.db"
    open_history(history)
    for suffix in ("log", "backup", "backup.1", "backup.new"):
        run_files.beside(history, suffix).symlink_to(victim)
    with written(history) as log:
        log.started(1, "0", 0)
    Backup(history).run()
    Backup(history).run()
    assert victim.read_text() == "precious"


@pytest.mark.slow
def test_a_name_with_shell_characters_is_a_name(make_hostile: Callable[[str], Path]) -> None:
    folder = make_hostile("$(touch hurt); `touch hurt` 'x' \"y\" & | .db")
    assert not list(folder.rglob("hurt"))
    assert shlex.quote("x") == "x"


@pytest.fixture
def make_hostile(folder: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        done = ncode(folder, "run", "search.toml", "--ranker", "random", "--trials", "3", "--history", name)
        assert done.returncode == 0, done
        assert (folder / name).exists()
        assert ncode(folder, "repair", name, "-o", "new.db").returncode == 0
        return folder

    return make
