"""Rankers that raise, answer nonsense or nothing, lose their file; servers that refuse, hang, stammer and come back."""

import os
import shutil
import time
from pathlib import Path

import pytest

from ncode_search.agent.proposals import LONGEST_REST, SHORTEST_REST, BackOff
from ncode_search.agent.ranking.embedded import PACKAGED
from tests.faults.harness import HERE, FaultySearch, wait_for
from tests.faults.moody_server import MoodyServer
from tests.ranking.http_stub import Stub

pytestmark = pytest.mark.slow

REASONS = (
    "SELECT CASE WHEN fallback THEN coalesce(reason, '') ELSE 'worked' END FROM decisions "
    "JOIN trials ON trials.id = trial WHERE proposed_by != 'startup' ORDER BY trial"
)


def reasons(search: FaultySearch) -> list[str]:
    """Of every decision that was the ranker's, why another one made it, or ``worked``."""
    return [reason for (reason,) in search.rows(REASONS)]


SAID = {"well": "worked", "half": "TimeoutError", "500": "HTTP 500", "garbage": "no JSON"}
"""What `reasons` tell of a server in a mood that the ranker has met, and was not merely spared."""


def asking(server: Stub, folder: Path) -> FaultySearch:
    """A search of many quick trials that this server ranks for."""
    ranker = f'kind = "llama"\nmodel = "{server.url}"\nstartup = 1\npool = 4\nshuffles = 1\ndeadline = 1.2'
    return FaultySearch(folder, "quick", trials=600, workers=1, ranker=ranker)


def test_complaint_09_a_ranker_that_does_everything_wrong_ends_no_search(tmp_path: Path) -> None:
    ranker = 'kind = "random"\nstartup = 1\npool = 8\ndeadline = 0.5'
    with FaultySearch(tmp_path, trials=30, workers=1, ranker=ranker) as search:
        search.watch_moves()
        search.wait(search.start(HERE / "faulty_ranker.py"))
        search.check()
        said = [reason for reason in reasons(search) if not reason.startswith("spared after")]
        assert said[0] == "worked"
        assert said[1] == "MemoryError: no room for the context"
        assert said[2].startswith("ValueError: the ranker gave a score that is no finite number")
        assert said[3].startswith("ValueError: the ranker gave scores of shape (7,)")
        assert said[5] == "no answer within 0.5 s"
        assert set(said[6:]) == {"the ranker is still busy with an earlier decision"}


def test_a_model_s_file_may_go_while_it_runs(tmp_path: Path) -> None:
    """A mapped file that is truncated kills whoever reads it."""
    model = Path(shutil.copy(PACKAGED, tmp_path / "model.gguf"))
    ranker = f'model = "{model}"\nstartup = 1\npool = 16'
    with FaultySearch(tmp_path / "run", trials=8, workers=1, ranker=ranker) as search:
        process = search.start()
        wait_for(lambda: search.count("end") >= 2)
        os.truncate(model, 0)
        wait_for(lambda: search.count("end") >= 5)
        model.unlink()
        search.wait(process)
        search.check()
        assert set(reasons(search)) == {"worked"}


def test_complaint_14_a_server_that_hangs_stammers_or_is_gone_is_used_again_when_it_comes_back(tmp_path: Path) -> None:
    mood = MoodyServer()
    with Stub(mood) as server, asking(server, tmp_path) as search:
        search.watch_moves()
        process = search.start()
        for now in ("well", "half", "well", "500", "garbage", "well"):
            mood.mood = now
            seen, said = len(reasons(search)), SAID[now]
            wait_for(lambda seen=seen, said=said: any(said in reason for reason in reasons(search)[seen + 2 :]))
        server.close()
        wait_for(lambda: reasons(search)[-1] != "worked")
        with Stub(mood, port=server.port):
            gone = len(reasons(search))
            wait_for(lambda: "worked" in reasons(search)[gone + 1 :])
        process.terminate()
        process.wait(20)
        assert process.returncode in (0, 1)
        assert not search.rows("SELECT id FROM trials WHERE state = 'running'")


def test_a_search_whose_server_is_gone_when_it_is_started_again_goes_on(tmp_path: Path) -> None:
    """As after a crash of the machine that both ran on; a search that was never ranked by it is refused."""
    mood = MoodyServer()
    with Stub(mood) as server, asking(server, tmp_path) as search:
        server.close()
        assert search.start().wait(30) == 2
        assert not search.history.exists()
        with Stub(mood, port=server.port) as server:
            process = search.start()
            wait_for(lambda: search.count("end") >= 2 and "worked" in reasons(search))
            search.kill(process.pid)
            process.wait()
        gone = len(reasons(search))
        process = search.start()
        wait_for(lambda: len(reasons(search)) >= gone + 3)
        assert "evolution decides until it is back" in search.output.read_text()
        assert all("is not reachable" in reason for reason in reasons(search)[gone + 1 :])
        with Stub(mood, port=server.port):
            wait_for(lambda: reasons(search)[-1] == "worked")
        process.terminate()
        assert process.wait(20) in (0, 1)


@pytest.mark.parametrize("size", [None, 70_000, 0])
def test_a_search_whose_model_is_damaged_when_it_is_started_again_goes_on(tmp_path: Path, size: int | None) -> None:
    """Deleted, truncated, emptied; a search that was never ranked by it is refused."""
    model = Path(shutil.copy(PACKAGED, tmp_path / "model.gguf"))
    ranker = f'model = "{model}"\nstartup = 1\npool = 16'
    with FaultySearch(tmp_path / "run", trials=600, workers=1, ranker=ranker) as search:
        os.truncate(model, 0)
        assert search.start().wait(30) == 2
        assert not search.history.exists()
        shutil.copy(PACKAGED, model)
        process = search.start()
        wait_for(lambda: search.count("end") >= 2 and "worked" in reasons(search))
        search.kill(process.pid)
        process.wait()
        model.unlink() if size is None else os.truncate(model, size)
        gone = len(reasons(search))
        process = search.start()
        wait_for(lambda: len(reasons(search)) >= gone + 3)
        assert "evolution decides until it is back" in search.output.read_text()
        assert all(str(model) in reason for reason in reasons(search)[gone + 1 :])
        shutil.copy(PACKAGED, model.with_suffix(".new"))
        model.with_suffix(".new").replace(model)
        wait_for(lambda: reasons(search)[-1] == "worked")
        process.terminate()
        assert process.wait(20) in (0, 1)


@pytest.mark.parametrize("seconds", [0.001, 5.0])
def test_a_ranker_is_spared_twice_as_long_after_every_failure(seconds: float) -> None:
    back_off, rests = BackOff(), []
    for _ in range(20):
        now = time.monotonic()
        back_off.failed(seconds, "gone", is_gone=True)
        rests.append(max(back_off._until - now, 0.0))
    first = max(seconds, SHORTEST_REST)
    assert rests[:5] == pytest.approx([0, first, 2 * first, 4 * first, 8 * first], abs=0.02), "once may be chance"
    assert rests[-1] == pytest.approx(LONGEST_REST, abs=0.02)
    assert back_off.excuse == "spared after 20 failures in a row, the last: gone"


def test_a_ranker_that_worked_starts_anew() -> None:
    back_off = BackOff()
    for _ in range(13):
        back_off.failed(5.0, "gone", is_gone=False)
        back_off.worked()
    assert back_off.excuse is None


def test_a_ranker_that_fails_by_itself_is_asked_every_time_unless_that_takes_long() -> None:
    back_off = BackOff()
    for _ in range(20):
        back_off.failed(0.01, "wrong", is_gone=False)
    assert back_off.excuse is None
    back_off.failed(1.5, "wrong", is_gone=False)
    assert back_off.excuse is not None
