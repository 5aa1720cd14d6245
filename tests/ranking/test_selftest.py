"""The question whether a model runs here, with children that really die."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking import selftest
from ncode_search.agent.ranking.gguf_file import check_model
from ncode_search.agent.ranking.llama_session import SessionSettings
from ncode_search.agent.ranking.selftest import child_command, proven_settings, remembered

from .tiny_gguf import quantize, write_tiny_gguf

SETTINGS = SessionSettings(threads=1)
CRASH = "import ctypes; ctypes.string_at(0)"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Children:
    """Command lines of children: `crashing` says for which settings the child crashes instead."""

    def __init__(self, crashing: Callable[[SessionSettings], bool] = lambda settings: False, code: str = CRASH) -> None:
        self.asked: list[bool] = []
        self._crashing = crashing
        self._code = code

    def __call__(self, path: Path, settings: SessionSettings) -> Sequence[str]:
        self.asked.append(settings.extra_buffers)
        return [sys.executable, "-c", self._code] if self._crashing(settings) else child_command(path, settings)


def test_a_quantized_model_passes_and_is_not_asked_again(tiny_gguf: Path, tmp_path: Path, empty_cache: Path) -> None:
    path = quantize(tiny_gguf, tmp_path / "q8.gguf")
    children = Children()
    assert remembered("digest", SETTINGS) is None
    proven = proven_settings(path, "digest", SETTINGS, command=children)
    assert proven_settings(path, "digest", SETTINGS, command=children) == proven
    # With AMX the real child may crash at the first question.
    assert children.asked in ([True], [True, False])
    assert remembered("digest", SETTINGS) is proven.extra_buffers
    assert not list((empty_cache / "ncode-search").rglob(".new-*"))


def test_another_file_or_device_is_asked_again(tiny_gguf: Path) -> None:
    proven_settings(tiny_gguf, "digest", SETTINGS)
    assert remembered("other", SETTINGS) is None
    assert remembered("digest", replace(SETTINGS, gpu_layers=-1)) is None
    assert remembered("digest", replace(SETTINGS, threads=7, context=64)) is True


def test_a_crash_switches_repacking_off(tiny_gguf: Path) -> None:
    children = Children(crashing=lambda settings: settings.extra_buffers)
    assert proven_settings(tiny_gguf, "digest", SETTINGS, command=children) == replace(SETTINGS, extra_buffers=False)
    assert children.asked == [True, False]
    assert remembered("digest", SETTINGS) is False


def test_a_model_that_always_crashes(tiny_gguf: Path) -> None:
    children = Children(crashing=lambda settings: True)
    with pytest.raises(InputError, match=r"tiny\.gguf crashes llama\.cpp .*SIGSEGV.*F16 or F32") as caught:
        proven_settings(tiny_gguf, "digest", SETTINGS, command=children)
    assert "\n" not in str(caught.value)
    assert remembered("digest", SETTINGS) is None


def test_a_child_that_fails_otherwise(tiny_gguf: Path) -> None:
    children = Children(crashing=lambda settings: True, code="raise SystemExit('the library is broken')")
    with pytest.raises(InputError, match="the library is broken"):
        proven_settings(tiny_gguf, "digest", SETTINGS, command=children)


def test_a_child_that_hangs(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "LIMIT", 0.2)
    children = Children(crashing=lambda settings: True, code="import time; time.sleep(60)")
    with pytest.raises(InputError, match="no answer within"):
        proven_settings(tiny_gguf, "digest", SETTINGS, command=children)


def test_llama_cpp_itself_crashes(tmp_path: Path) -> None:
    """A header that passes and a model that llama.cpp aborts on while it loads: what the child is for."""
    path = write_tiny_gguf(tmp_path / "deadly.gguf", layers_claimed=10**6)
    check_model(path)
    children = Children()
    with pytest.raises(InputError, match=r"deadly\.gguf crashes llama\.cpp .*\(SIGABRT.*GGML_ASSERT"):
        proven_settings(path, "digest", SETTINGS, command=children)
    assert children.asked == [True, False]


def test_a_tokenizer_without_digits(tmp_path: Path) -> None:
    path = tmp_path / "mute.gguf"
    data = write_tiny_gguf(tmp_path / "whole.gguf", template=None).read_bytes()
    for digit in b"0123":  # each token is stored behind its length
        data = data.replace(b"\1\0\0\0\0\0\0\0" + bytes([digit]), b"\1\0\0\0\0\0\0\0" + bytes([digit + 16]), 1)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"mute\.gguf"):
        proven_settings(path, "digest", SETTINGS)


def test_a_model_that_llama_cpp_refuses_says_why(tmp_path: Path) -> None:
    path = tmp_path / "holey.gguf"
    data = write_tiny_gguf(tmp_path / "whole.gguf").read_bytes()
    path.write_bytes(data.replace(b"blk.1.attn_k.weight", b"blk.1.attn_x.weight"))
    children = Children()
    with pytest.raises(InputError, match=r"holey\.gguf cannot be loaded .*attn_k"):
        proven_settings(path, "digest", SETTINGS, command=children)
    assert children.asked == [True]


def test_weights_of_garbage(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "garbage.gguf")
    data = path.read_bytes()
    path.write_bytes(data[:-200_000] + b"\xff" * 200_000)
    with pytest.raises(InputError, match=r"garbage\.gguf answers with numbers that are not finite"):
        proven_settings(path, "digest", SETTINGS)


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"answer": 1}', "\xff"])
def test_a_damaged_memory_is_asked_again(tiny_gguf: Path, empty_cache: Path, content: str) -> None:
    proven_settings(tiny_gguf, "digest", SETTINGS)
    (answer,) = (empty_cache / "ncode-search" / "answers").iterdir()
    answer.write_bytes(content.encode("latin-1"))
    assert remembered("digest", SETTINGS) is None


@pytest.mark.parametrize("home", ["/proc/nowhere", "/dev/null/cache"])
def test_a_home_that_cannot_be_written(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    assert proven_settings(tiny_gguf, "digest", SETTINGS).extra_buffers is True


def test_no_home(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert proven_settings(tiny_gguf, "digest", SETTINGS).extra_buffers is True


def test_what_lies_in_the_folder_is_not_imported(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('imported by accident')")
    monkeypatch.chdir(tmp_path)
    assert proven_settings(tiny_gguf, "digest", SETTINGS).extra_buffers is True
    assert os.listdir(tmp_path).count("core") == 0
