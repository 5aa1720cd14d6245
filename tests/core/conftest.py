"""Tests of the compiled core. `NCODE_CORE` may name another build of it to test, such as the sanitized one."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest
from hypothesis import settings

import ncode_search


def _load_core(path: str) -> None:
    spec = importlib.util.spec_from_file_location("ncode_search._core", path)
    if spec is None or spec.loader is None:
        raise pytest.UsageError(f"NCODE_CORE: {path} is no extension module")
    module = importlib.util.module_from_spec(spec)
    sys.modules["ncode_search._core"] = module
    spec.loader.exec_module(module)
    ncode_search._core = module  # type: ignore[attr-defined]


if "NCODE_CORE" in os.environ:
    if "ncode_search._core" in sys.modules:
        raise pytest.UsageError("NCODE_CORE comes too late: the installed core is loaded; run tests/core alone")
    _load_core(os.environ["NCODE_CORE"])

# The speed of a shared machine is no property of the code.
settings.register_profile("core", deadline=None, max_examples=100, derandomize=True)
settings.load_profile("core")


def pytest_report_header() -> str:
    from ncode_search import _core

    return f"core: {_core.__file__} ({_core.BUILD})"
