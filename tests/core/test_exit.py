"""The end of an interpreter that has daemon threads in the core, as a ranker's may be."""

import subprocess
import sys

from ncode_search import _core

BUSY = """
import importlib.util
import threading
import time

spec = importlib.util.spec_from_file_location("_core", {core!r})
core = importlib.util.module_from_spec(spec)
spec.loader.exec_module(core)
space = core.Space([9] * 8)
codes = space.random(20_000, 1)


def work():
    while True:
        space.to_text(codes)


for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
"""


def test_a_thread_in_the_core_crashes_no_interpreter_that_ends() -> None:
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", BUSY.format(core=_core.__file__)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
