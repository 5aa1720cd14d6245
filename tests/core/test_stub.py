"""The type stub tells the truth about the compiled module."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_stub_matches_the_module(tmp_path: Path) -> None:
    """stubtest finds stubs by folders, which an editable install does not have: it gets the two that it needs."""
    package = tmp_path / "ncode_search"
    package.mkdir()
    (package / "__init__.pyi").touch()
    (package / "_core.pyi").symlink_to(ROOT / "bindings" / "_core.pyi")
    allowed = tmp_path / "allowed"  # pybind11's metaclass, which is nobody's business
    allowed.write_text(
        "".join(f"ncode_search._core.{name}\n" for name in ("Canonical", "CodeSet", "Feasible", "Space", "Subspace"))
    )
    command = [sys.executable, "-m", "mypy.stubtest", "ncode_search._core", "--allowlist", str(allowed)]
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    environment["MYPYPATH"] = str(tmp_path)
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
