"""Jobs in processes: the same results on any number of them, and an end of all where one fails."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ncode_search.agent.bench.runner import Plan, _interrupts_held, run_jobs, run_searches
from ncode_search.agent.bench.tasks import Task, read_tasks
from ncode_search.agent.bench.trials import BenchSettings
from ncode_search.agent.errors import InputError, NcodeError

from .conftest import make_task, write_table

METHODS = ["ridge", "evolution-pool", "evolution"]


@pytest.mark.slow
def test_the_number_of_processes_does_not_matter() -> None:
    plan = Plan([make_task(3, 3, 3, twins=True), make_task(4, 4)], BenchSettings(trials=14, pool=8))
    one, two = (run_searches(plan, METHODS, 2, processes) for processes in (1, 2))
    for task in range(2):
        assert list(one[task]) == METHODS
        for method in METHODS:
            for seed in range(2):
                a, b = one[task][method][seed], two[task][method][seed]
                assert (a.method, a.seed) == (b.method, b.seed) == (method, seed)
                assert a.rows.tolist() == b.rows.tolist()
                assert a.twins.tolist() == b.twins.tolist()
    assert one[0]["ridge"][0].rows.tolist() != one[0]["ridge"][1].rows.tolist()


def threads(shared: str, job: int) -> tuple[str, int, str]:
    if job == 0:
        time.sleep(0.2)
    return shared, job, os.environ["OMP_NUM_THREADS"]


def test_results_are_in_the_order_of_the_jobs_and_children_have_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert run_jobs(threads, "all", [0, 1, 2], 2, "jobs") == [("all", job, "1") for job in range(3)]
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def fail(shared: str, job: int) -> int:
    if job == 1:
        raise InputError(f"{shared} {job}")
    time.sleep(60 if job > 1 else 0)
    return job


def test_an_error_ends_all_jobs_at_once() -> None:
    begun = time.monotonic()
    with pytest.raises(InputError, match="^wrong 1$"):
        run_jobs(fail, "wrong", list(range(4)), 2, "jobs")
    assert time.monotonic() - begun < 30
    assert not multiprocessing.active_children()


def die(shared: str, job: int) -> int:
    os._exit(3)


def test_a_process_that_dies_is_one_line() -> None:
    with pytest.raises(NcodeError, match="fewer --jobs$"):
        run_jobs(die, "", [0, 1], 1, "jobs")


def test_a_task_can_be_sent() -> None:
    task = make_task(3, 3, 3, twins=True)
    sent: Task = pickle.loads(pickle.dumps(task))  # noqa: S301
    assert (sent.name, sent.minimize, sent.reported) == (task.name, task.minimize, task.reported)
    assert sent.table.space == task.table.space
    for name in ("codes", "values", "report", "canon"):
        assert np.array_equal(getattr(sent.table, name), getattr(task.table, name))


def test_reading_tasks(tmp_path: Path) -> None:
    path = write_table(tmp_path, make_task(3, 3, 4))
    up, down = (read_tasks(path, ["score", "other"], minimize=less) for less in (False, True))
    assert [task.name for task in up] == ["score", "other"]
    assert (down[0].table.values == -up[0].table.values).all()
    assert down[0].sign * down[0].optimum == up[0].table.values.min() == up[0].worst
    each = read_tasks(path, ["score", "other"], minimize=False, reports=["other", "score"])
    assert [(task.reported, task.table.report[0]) for task in each] == [
        ("other", up[1].table.values[0]),
        ("score", up[0].table.values[0]),
    ]
    assert [task.reported for task in read_tasks(path, ["score", "other"], minimize=False, reports=["other"])] == [
        "other"
    ] * 2
    ordered = read_tasks(path, ["score"], minimize=False, ordered=[2])[0].table
    assert list(ordered.space.positions.values()) == [("0", "1", "2"), ("0", "1", "2"), (0, 1, 2, 3)]
    assert (ordered.rows_of(ordered.codes) == np.arange(36)).all()
    with pytest.raises(InputError, match="--ordered has 3; the table's positions are 0 to 2"):
        read_tasks(path, ["score"], minimize=False, ordered=[3])


def test_ctrl_c_waits_for_the_end_of_a_block_whichever_thread_takes_it() -> None:
    """Raised in the middle of `ProcessPoolExecutor.submit`, it left a queue's lock taken, and the command hung."""
    done, came = threading.Event(), []

    def hear_it_in_a_block() -> None:
        with _interrupts_held():
            os.kill(os.getpid(), signal.SIGINT)  # the taker takes it, this thread has it blocked
            time.sleep(0.2)
            came.append("end of the block")

    taker = threading.Thread(target=done.wait)
    taker.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            hear_it_in_a_block()
    finally:
        done.set()
        taker.join()
    assert came == ["end of the block"]
