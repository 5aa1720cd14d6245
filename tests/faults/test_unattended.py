"""The scripts of docs/unattended.md do what is said there."""

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.harness import FaultySearch, wait_for

DOCS = Path(__file__).parent.parent.parent / "docs" / "unattended.md"
pytestmark = pytest.mark.slow


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def block(language: str) -> str:
    """The one block of the page in that language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return str(found)


def test_the_slurm_job_is_queued_again_when_its_time_is_over(tmp_path: Path) -> None:
    with FaultySearch(tmp_path / "run", "second", trials=40) as search:
        program(tmp_path / "ncode", f'#!/bin/sh\nexec {sys.executable} -m ncode_search.agent "$@"\n')
        program(tmp_path / "scontrol", f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol.log\n')
        program(tmp_path / "job.sh", block("bash"))
        path = f"{tmp_path}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "NCODE_TEST_LOG": str(search.witness), "SLURM_JOB_ID": "42"}
        with search.output.open("wb") as output:
            job = subprocess.Popen(
                ["bash", str(tmp_path / "job.sh")], cwd=search.folder, env=environment, stdout=output, stderr=output
            )
        wait_for(lambda: search.count("begin") == 2)
        job.send_signal(signal.SIGTERM)
        assert job.wait(20) == 0, search.output.read_text()
        assert (tmp_path / "scontrol.log").read_text() == "requeue 42\n"
        assert set(search.rows("SELECT DISTINCT state, failures FROM trials")) == {("complete", 0), ("queued", 0)}


def test_the_service_has_what_a_search_needs(tmp_path: Path) -> None:
    unit = block("ini")
    for line in ("KillMode=process", "Restart=on-failure", "RestartPreventExitStatus=2 3", "OOMPolicy=continue"):
        assert line in unit.splitlines()
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd to check the rest")
    path = tmp_path / "ncode-search.service"
    path.write_text(re.sub("(?m)^ExecStart=.*", "ExecStart=/bin/true", unit))
    checked = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


NOTIFIED = """kind = "evolution"
[notify]
command = '''sh -c 'echo "$NCODE_EVENT" "$NCODE_MESSAGE" >> told.log''''
every = "1s"
"""


def log_of(search: FaultySearch) -> list[dict[str, object]]:
    return [json.loads(line) for line in (search.folder / "search.db.log").read_text().splitlines()]


def test_a_run_that_cannot_begin_leaves_why(tmp_path: Path) -> None:
    """In its record, for `ncode status`, in the log, and by the user's command."""
    with FaultySearch(tmp_path, trials=2, workers=1, ranker=NOTIFIED) as search:
        search.finish()
        (tmp_path / "fault_functions.py").write_text("import os; os._exit(5)")
        assert search.start(None, "--trials", 4).wait(30) == 1
        command = [sys.executable, "-m", "ncode_search.agent", "status", str(search.history), "--check"]
        status = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        last = log_of(search)[-1]
        assert (last["message"], "exited with code 5" in str(last["reason"])) == ("run failed", True)
        assert "exited with code 5" in status, status
        told = (tmp_path / "told.log").read_text().splitlines()[-1]
        assert told.startswith("failed failed with 2 trials completed: a worker process cannot start"), told


def test_a_model_that_cannot_rank_is_why_a_run_could_not_begin(tmp_path: Path) -> None:
    with FaultySearch(tmp_path, trials=2, workers=1) as search:
        search.finish()
        (tmp_path / "model.gguf").write_bytes(b"GGUF")
        assert search.start(None, "--trials", 4, "--ranker", tmp_path / "model.gguf").wait(30) == 2
        assert "model.gguf" in str(log_of(search)[-1]["reason"])


def test_the_log_says_which_code_is_run_also_of_a_quiet_search(tmp_path: Path) -> None:
    with FaultySearch(tmp_path, trials=1, workers=1) as search:
        search.wait(search.start(None, "--quiet"))
        assert log_of(search)[0]["imports"] == [str(tmp_path.resolve() / "fault_functions.py")]


def test_a_function_in_a_file_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    with FaultySearch(tmp_path / "run", trials=1, workers=1) as search:
        functions = search.folder / "fault_functions.py"
        functions.rename(tmp_path / "elsewhere.py")
        functions.symlink_to(tmp_path / "elsewhere.py")
        assert search.start().wait(30) == 2
        (line,) = search.output.read_text().splitlines()[-1:]
        assert f"leads out of {search.folder} to {tmp_path.resolve()}/elsewhere.py" in line
        assert not search.history.exists()


def test_a_node_that_failed_keeps_the_next_one_waiting_and_not_out(tmp_path: Path) -> None:
    """Its agent seems to have the history for three minutes; a service manager tries again after 1 and not after 2."""
    with FaultySearch(tmp_path, trials=2, workers=1) as search:
        search.finish()
        claim = json.dumps({"process": "othernode:123:5@boot", "seen": time.time() - 20})
        with contextlib.closing(sqlite3.connect(search.history)) as db, db:
            db.execute("INSERT INTO meta (key, value) VALUES ('agent', ?)", [claim])
        assert search.start(None, "--trials", 3).wait(30) == 1
        assert "is in use by process 123 on othernode" in search.output.read_text().splitlines()[-1]
