"""16-bit copies of quantized models: the same model, used where it pays, and never in the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ncode_search.agent.ranking import fast_copy
from ncode_search.agent.ranking.child import python_child, run_child
from ncode_search.agent.ranking.fast_copy import faster_file, write_copy
from ncode_search.agent.ranking.gguf_file import check_model
from ncode_search.agent.ranking.llama_session import LlamaSession, SessionSettings

from .tiny_gguf import Shape, make_weights, quantize

SETTINGS = SessionSettings(threads=1)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small(tiny_gguf: Path, tmp_path: Path) -> Path:
    return quantize(tiny_gguf, tmp_path / "q8.gguf")


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_copy, "LEAST_WEIGHTS", 0)


def test_header_says_what_is_quantized(tiny_gguf: Path, small: Path) -> None:
    assert (check_model(tiny_gguf).quantized, check_model(small).quantized) == (False, True)
    weights = sum(tensor.size for tensor in make_weights(Shape()).values())
    assert check_model(tiny_gguf).weights == check_model(small).weights == weights


def test_the_copy_is_the_same_model(small: Path, tmp_path: Path) -> None:
    write_copy(small, tmp_path / "deep" / "copy.gguf")
    assert not check_model(tmp_path / "deep" / "copy.gguf").quantized
    scores = []
    for path in (small, tmp_path / "deep" / "copy.gguf"):
        with LlamaSession(path, SETTINGS) as session:
            scores.append(session.log_likelihoods(session.tokenize_prompt("0123|1.0,"), [[50, 60], [70]]))
    np.testing.assert_allclose(scores[0], scores[1], atol=0.3)  # activations are no longer rounded to 8 bits
    assert not list(tmp_path.rglob(".new-*"))


def test_the_child_measures(small: Path, tmp_path: Path) -> None:
    child = run_child(python_child("ncode_search.agent.ranking.fast_copy", small, tmp_path / "copy.gguf", 1), 60)
    assert child.cause is None
    assert 0.01 < float(child.said) < 100


@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize(("gain", "pays"), [(0.0, True), (1e9, False)])
def test_the_copy_is_used_where_it_pays(
    small: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch, gain: float, pays: bool
) -> None:
    monkeypatch.setattr(fast_copy, "GAIN", gain)
    copy = empty_cache / "ncode-search" / "f16" / "digest.gguf"
    assert faster_file(small, "digest", SETTINGS) == (copy if pays else small)
    assert copy.exists() == pays
    monkeypatch.setattr(fast_copy, "run_child", None)  # the answer is remembered
    assert faster_file(small, "digest", SETTINGS) == (copy if pays else small)
    if pays:
        copy.write_bytes(copy.read_bytes()[:-100])
        assert faster_file(small, "digest", SETTINGS) == copy
        check_model(copy)


@pytest.mark.usefixtures("any_size")
def test_a_cache_that_cannot_be_written(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/cache")
    assert faster_file(small, "digest", SETTINGS) == small


def test_no_copy_of_these(tiny_gguf: Path, small: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert faster_file(small, "digest", SETTINGS) == small  # too small to matter
    monkeypatch.setattr(fast_copy, "LEAST_WEIGHTS", 0)
    assert faster_file(tiny_gguf, "digest", SETTINGS) == tiny_gguf
    assert faster_file(small, "digest", SessionSettings(gpu_layers=-1)) == small
    monkeypatch.setattr(fast_copy, "MOST_WEIGHTS", 10)
    assert faster_file(small, "digest", SETTINGS) == small
    assert not empty_cache.exists()
