"""What tests of several folders share."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncode_search.evaluators.python import SCRIPT_NAME


@pytest.fixture(autouse=True)
def forgotten_script() -> Iterator[None]:
    """A process that has run a user's script takes itself for a worker, and starts no search."""
    yield
    sys.modules.pop(SCRIPT_NAME, None)


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of 100,000 weights that llama.cpp can score with; random, so its ranking means nothing."""
    # By path: the folders of tests are no packages of a common one.
    spec = importlib.util.spec_from_file_location("tiny_gguf", Path(__file__).parent / "ranking" / "tiny_gguf.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_gguf"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    path: Path = module.write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")
    return path
