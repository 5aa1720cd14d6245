"""The direction of imports that docs/architecture.md shows, and how little is imported before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "ncode_search"
# Every module may import those above it; modules of one line do not import each other.
ORDER = [
    {
        "_core",
        "evaluators",
        "agent.errors",
        "agent.states",
        "agent.processes",
        "agent.waiting",
        "agent.bounded_pool",
    },
    {
        "agent.process_tree",
        "agent.cgroup",
        "agent.declared",
        "agent.observations",
        "agent.functions",
        "agent.settings",
        "agent.schema",
        "agent.lasting_output",
        "agent.run_files",
        "agent.snapshots",
        "agent.signals",
        "agent.wording",
        "agent.whole_files",
    },
    {"agent.equality", "agent.costs", "agent.devices", "agent.declarations", "agent.trial_folders"},
    {"agent.constraints", "agent.salvage"},
    {"agent.space", "agent.database", "agent.records"},
    {"agent.leases", "agent.history_reader"},
    {"agent.history", "agent.measured_cost", "agent.score_table", "agent.ranking"},
    {"agent.pruned_space", "agent.rungs"},
    {"agent.pool"},
    {"agent.bench"},
    {"agent.tuning"},
    {
        "agent.agent_lock",
        "agent.keeper",
        "agent.fidelity",
        "agent.run_record",
        "agent.observer",
        "agent.stopping_rules",
    },
    {
        "agent.asked",
        "agent.session",
        "agent.worker",
        "agent.health",
        "agent.outcome",
        "agent.notify",
        "agent.run_log",
        "agent.backup",
    },
    {"agent.workers"},
    {"agent.proposals", "agent.evaluator_cost", "agent.evaluator_process"},
    {"agent.loop", "agent.watching"},
    {"agent.search"},
    {"agent.space_file"},
    {"agent.search_file", "agent.report", "agent.export", "agent.doctor", "agent.repair", "agent.health_report"},
    {
        "agent.running",
        "agent.space_report",
        "agent.evaluator_check",
        "agent.bench_commands",
        "agent.ranker_commands",
    },
    {"agent.tabulate", "agent.pruned_file"},
    {"agent.prune_run"},
    {"agent.tabulate_command", "agent.prune_command"},
    {"agent.cli"},
    {"agent.__main__"},
]
RANK = {room: number for number, rooms in enumerate(ORDER) for room in rooms}


def room_of(module: str) -> str:
    parts = module.removeprefix(f"{PACKAGE}.").split(".")
    return "evaluators" if parts[0] == "evaluators" else ".".join(parts[:2])


def imports_of(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module in PARENTS else {node.module}
            )
    return {name for name in found if name.startswith(f"{PACKAGE}.")}


PARENTS = {PACKAGE, f"{PACKAGE}.agent"}
FILES = sorted((ROOT / "agent").rglob("*.py")) + sorted((ROOT / "evaluators").rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_only_go_down(file: Path) -> None:
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    if module == "agent":
        return
    own = room_of(module)
    for imported in map(room_of, imports_of(file)):
        if imported != own and imported != "__version__":
            assert RANK[imported] < RANK[own], f"{module} must not import {imported}"


@pytest.mark.parametrize("room", ["csrc", "bindings"])
def test_the_core_knows_no_python(room: str) -> None:
    for file in (ROOT / room).glob("*.[ch]pp"):
        text = file.read_text()
        assert ("pybind11" in text or "Python.h" in text) <= (room == "bindings"), file


def modules_after(code: str) -> set[str]:
    command = [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    assert not modules_after("import ncode_search.agent.cli") & {"numpy", "sqlite_utils", "rich", "torch", "llama_cpp"}
    assert not modules_after("import ncode_search.agent.search") & {
        "torch",
        "llama_cpp",
        "sklearn",
        "transformers",
        "jinja2",
    }
    assert not modules_after("import ncode_search.agent.worker") & {"torch", "llama_cpp", "sklearn"}
