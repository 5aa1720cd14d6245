"""The scripts of docs/unattended.md do what is said there."""

import os
import re
import shutil
import signal
import subprocess
import sys
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
