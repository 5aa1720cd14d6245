"""What is done to a search in a soak: kinds of faults, how often, how long."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ncode_search.agent.ranking.embedded import PACKAGED
from tests.faults.disks import fill
from tests.faults.harness import locked, long_reader, stopped, victims_of, workers_of
from tests.ranking.http_stub import Stub

if TYPE_CHECKING:
    from tests.soak.soak import Soak

Lasting = contextlib.AbstractContextManager[object]


@dataclass(frozen=True)
class Fault:
    """A kind of fault."""

    name: str
    weight: int
    """How often, beside the others."""
    strike: Callable[[Soak], Lasting | None]
    """Does it; what lasts is a context, and over when that is left."""
    seconds: tuple[float, float] = (0.0, 0.0)
    """How long it lasts, at least and at most."""
    needs: str = ""
    """``disk``: a small disk; ``file``, ``server``: who ranks."""
    refused_with: int = 0
    """The exit code of an agent that is started meanwhile and does not run; 0: it has to run. Where
    it needs a file, only before that has ranked."""


def kill(victim: str) -> Callable[[Soak], None]:
    """Kill -9 of the ``agent``, a ``worker`` or ``both``, in any order."""

    def strike(soak: Soak) -> None:
        pids = victims_of(soak.agent.pid, victim)
        soak.search.kill(*soak.random.sample(pids, len(pids)))

    return strike


def terminate(soak: Soak) -> None:
    """As a service manager does."""
    soak.stop_agent()


def befall(fate: str) -> Callable[[Soak], None]:
    """The next evaluation meets one of `tests.faults.fault_functions.FATES`."""
    return lambda soak: soak.order(fate)


def stop(whom: str) -> Callable[[Soak], Lasting]:
    """SIGSTOP, and SIGCONT when it is over."""

    def strike(soak: Soak) -> Lasting:
        workers = workers_of(soak.agent.pid)
        chosen = {"agent": [soak.agent.pid], "worker": workers[:1], "all": [*workers, soak.agent.pid]}
        return stopped(*chosen[whom])

    return strike


@contextlib.contextmanager
def full(soak: Soak) -> Iterator[None]:
    """No room on the history's disk."""
    filler = fill(soak.search.history.parent)
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def damaged_model(soak: Soak, *, deleted: bool) -> Iterator[None]:
    """The model's file is gone, or has half its length, while the agent uses it, and whole afterwards."""
    model = soak.search.folder / "model.gguf"
    if deleted:
        model.unlink()
    else:
        with model.open("r+b") as file:
            file.truncate(PACKAGED.stat().st_size // 2)
    try:
        yield
    finally:
        shutil.copy(PACKAGED, model.with_suffix(".new"))
        model.with_suffix(".new").replace(model)


@contextlib.contextmanager
def in_a_mood(soak: Soak, mood: str) -> Iterator[None]:
    """The server answers otherwise."""
    soak.mood.mood = mood
    try:
        yield
    finally:
        soak.mood.mood = "well"


@contextlib.contextmanager
def gone(soak: Soak) -> Iterator[None]:
    """The server is not there."""
    soak.server.close()
    try:
        yield
    finally:
        try:
            soak.server = Stub(soak.mood, port=soak.server.port)
        except OSError:  # somebody else has the port now: for this agent, it does not come back
            soak.server = Stub(soak.mood)


FAULTS = (
    Fault("kill -9 of the agent", 2, kill("agent")),
    Fault("kill -9 of a worker", 6, kill("worker")),
    Fault("kill -9 of agent and worker", 1, kill("both")),
    Fault("SIGTERM to the agent", 1, terminate),
    Fault("worker: hangs in native code, deaf to SIGTERM", 2, befall("hang")),
    Fault("worker: os._exit", 3, befall("exit")),
    Fault("worker: segmentation fault", 3, befall("segfault")),
    Fault("worker: abort", 2, befall("abort")),
    Fault("worker: beyond its limit of memory", 2, befall("memory")),
    Fault("worker: the same in native code", 2, befall("native memory")),
    Fault("worker: prints a gigabyte", 1, befall("print")),
    Fault("worker: leaves children behind", 2, befall("children")),
    Fault("SIGSTOP of the agent, later SIGCONT", 2, stop("agent"), (3, 20)),
    Fault("SIGSTOP of a worker, later SIGCONT", 2, stop("worker"), (3, 15)),
    Fault("SIGSTOP of everything, later SIGCONT", 1, stop("all"), (5, 60)),
    Fault("history locked by another process", 1, lambda soak: locked(soak.search.history), (1, 30)),
    Fault("history read in one long transaction", 2, lambda soak: long_reader(soak.search.history), (10, 60)),
    Fault("disk full", 2, full, (3, 20), "disk", refused_with=1),
    Fault(
        "model's file truncated", 1, lambda soak: damaged_model(soak, deleted=False), (5, 30), "file", refused_with=2
    ),
    Fault("model's file deleted", 1, lambda soak: damaged_model(soak, deleted=True), (5, 30), "file", refused_with=2),
    Fault("ranker's server: gone, and back", 2, gone, (3, 15), "server", 2),
    Fault("ranker's server: hangs in its answer", 2, lambda soak: in_a_mood(soak, "half"), (3, 15), "server"),
    Fault("ranker's server: answers 500", 2, lambda soak: in_a_mood(soak, "500"), (3, 15), "server"),
    Fault("ranker's server: answers garbage", 2, lambda soak: in_a_mood(soak, "garbage"), (3, 15), "server"),
)
"""But for those of a whole life of an agent, see `Soak.start`."""
