"""The type stub tells the truth about the compiled module."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_stub_matches_the_module(tmp_path: Path) -> None:
    """stubtest needs the package's layout, which an editable install only has at run time."""
    package = tmp_path / "ncode_search"
    package.mkdir()
    for source in ("__init__.py", "_core.pyi", "py.typed"):
        (package / source).symlink_to(ROOT / "bindings" / source)
    for source in ("agent", "evaluators"):
        (package / source).symlink_to(ROOT / source)
    command = [sys.executable, "-m", "mypy.stubtest", "ncode_search._core"]
    environment = {**os.environ, "MYPYPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
