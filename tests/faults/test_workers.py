"""Evaluators that hang, crash, eat memory, print without end and leave children behind."""

import time
from pathlib import Path

import pytest

from ncode_search.agent.processes import process_start
from tests.faults.harness import LONG, FaultySearch, jumping_clock, stopped, wait_for, workers_of

FATES = ["hang", "exit", "segfault", "abort", "memory", "native memory", "print", "children", "fine"]
DEADLY = set(FATES) - {"print", "fine"}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory):
    """One search over all fates; each befalls a trial once. What its output file came to is watched."""
    folder = tmp_path_factory.mktemp("hostile")
    space = f"fate = {FATES}".replace("'", '"')
    settings = {"trials": len(FATES), "workers": 1, "timeout": 4, "retries": 1, "space": space}
    temporary = folder / "temporary"
    temporary.mkdir()
    with FaultySearch(folder, "hostile", environment={"TMPDIR": str(temporary)}, **settings) as search:
        search.watch_moves()
        process = search.start()
        largest = 0
        while process.poll() is None:
            largest = max(largest, *map(output_size, workers_of(process.pid)), 0)
            time.sleep(0.01)
        search.wait(process)
        search.trials -= 1  # what has no room is not tried again
        yield search, largest


def output_size(pid: int) -> int:
    try:
        return Path(f"/proc/{pid}/fd/2").stat().st_size
    except OSError:
        return 0


def test_complaint_12_no_fate_of_a_worker_ends_the_search_or_is_counted_twice(hostile) -> None:
    search, _ = hostile
    search.check()
    states = dict(search.rows("SELECT state, count(*) FROM trials GROUP BY state"))
    assert states == {"complete": len(FATES) - 1, "failed": 1}


@pytest.mark.parametrize("fate", FATES)
def test_complaint_08_a_trial_that_takes_its_worker_down_costs_one_attempt(hostile, fate: str) -> None:
    search, _ = hostile
    code = str(FATES.index(fate))
    ((attempts, failures),) = search.rows(f"SELECT attempt, failures FROM trials WHERE code = '{code}'")
    assert failures == (fate in DEADLY)
    assert attempts == (1 if fate == "memory" else 1 + failures)


def test_a_worker_that_prints_a_gigabyte_fills_no_disk(hostile) -> None:
    search, largest = hostile
    assert search.count("printed") == 1
    assert 0 < largest < 512 << 20


def test_children_of_a_dead_worker_go_with_it(hostile) -> None:
    """Of one that exited, and of one that hung until its deadline; also those that have left its process group."""
    search, _ = hostile
    assert search.count("child") == 3
    assert [process_start(int(pid)) for _, pid in search.lines("child")] == ["", "", ""]


def test_children_of_a_worker_whose_agent_is_gone_go_with_it(tmp_path: Path) -> None:
    with FaultySearch(tmp_path, "leaves_a_child", trials=2, workers=1) as search:
        process = search.start()
        wait_for(lambda: search.count("begin") == 1)
        search.kill(process.pid)
        process.wait()
        wait_for(lambda: search.count("end") == 1)
        assert search.count("child") == 2
        wait_for(lambda: not any(process_start(int(child)) for _, child in search.lines("child")), 5)


def test_children_of_a_worker_that_died_with_its_agent_go_when_the_search_goes_on(tmp_path: Path) -> None:
    """Those of a worker that lives on stay with it."""
    with FaultySearch(tmp_path, "leaves_children_until_go", trials=2, workers=2) as search:
        process = search.start()
        wait_for(lambda: search.count("begin") == 2)
        (dead, lives), codes = workers_of(process.pid), {pid: code for code, pid in search.lines("begin")}
        search.kill(process.pid, dead)
        process.wait()
        left = {code: [int(pid) for one, pid in search.lines("child") if one == code] for code in codes.values()}
        assert all(process_start(pid) for pids in left.values() for pid in pids)
        process = search.start()
        wait_for(lambda: not any(map(process_start, left[codes[str(dead)]])))
        assert all(map(process_start, [lives, *left[codes[str(lives)]]]))
        (tmp_path / "go").touch()
        search.wait(process)
        search.check()


@pytest.mark.timeout(600 if LONG else 120)
def test_complaint_07_a_machine_that_sleeps_loses_no_trial_and_doubles_none(tmp_path: Path) -> None:
    """All is stopped for far longer than a trial may take, twice: once everything, once the agent alone."""
    asleep = 60.0 if LONG else 4.0
    with FaultySearch(tmp_path, "second", trials=6, workers=2, timeout=3, retries=0) as search:
        search.watch_moves()
        process = search.start()
        for sleepers in (lambda: [*workers_of(process.pid), process.pid], lambda: [process.pid]):
            seen = search.count("begin")
            wait_for(lambda seen=seen: search.count("begin") > seen)
            with stopped(*sleepers()):
                time.sleep(asleep)
        search.wait(process)
        search.check()
        assert search.rows("SELECT DISTINCT attempt, state FROM trials") == [(1, "complete")]


def test_complaint_07_a_worker_that_is_stopped_alone_gets_the_rest_of_its_time(tmp_path: Path) -> None:
    with FaultySearch(tmp_path, "second", trials=1, workers=1, timeout=4) as search:
        process = search.start()
        wait_for(lambda: search.count("begin") == 1)
        with stopped(*workers_of(process.pid)):
            time.sleep(5)
        search.wait(process)
        search.check()
        assert search.rows("SELECT attempt, failures FROM trials WHERE id = 1") == [(1, 0)]


def test_complaint_07_a_clock_that_jumps_ends_no_trial(tmp_path: Path) -> None:
    """The wall clock of agent and workers is another one at every look, also of an agent that takes trials over."""
    clock = jumping_clock(tmp_path / "clock")
    with FaultySearch(tmp_path, "long", trials=2, timeout=20, retries=0, environment=clock) as search:
        search.watch_moves()
        process = search.start()
        wait_for(lambda: search.count("begin") == 2)
        search.kill(process.pid)
        process.wait()
        search.finish()
        search.check()
        assert search.rows("SELECT DISTINCT attempt, state FROM trials") == [(1, "complete")]
        # Two moments alone may have jumped by the same.
        moments = " UNION ".join(f"SELECT {name}_at AS at FROM trials" for name in ("created", "started", "finished"))
        ((spread,),) = search.rows(f"SELECT max(at) - min(at) FROM ({moments})")
        assert spread > 3000, "the clock did not jump"


def test_a_forked_child_that_comes_back_speaks_for_nobody(tmp_path: Path) -> None:
    space = 'child = ["returns", "raises", "exits", "prunes"]'
    with FaultySearch(tmp_path, "forks", trials=4, workers=1, retries=0, space=space) as search:
        search.watch_moves()
        search.finish()
        search.check()
        assert search.rows("SELECT DISTINCT state, attempt, value FROM trials") == [("complete", 1, 0.37)]
