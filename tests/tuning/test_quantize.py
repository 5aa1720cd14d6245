"""Quantization: llama.cpp's work, done whole or refused in one line."""

import os
import sys

import gguf
import numpy as np
import pytest

from ncode_search.agent.errors import InputError
from ncode_search.agent.tuning.quantize import KINDS, quantize


@pytest.fixture
def write_model(tiny_gguf):
    """Writes a Llama with rows of one length."""
    tiny = sys.modules["tiny_gguf"]

    def write(path, width=256):
        shape = tiny.Shape(width=width, hidden=width, heads=2, kv_heads=2, layers=1)
        return tiny.write_tiny_gguf(path, shape=shape)

    return write


def weights(path):
    """The feed-forward matrices' weights and types."""
    tensors = [tensor for tensor in gguf.GGUFReader(path).tensors if "ffn_gate" in tensor.name]
    return [(gguf.quants.dequantize(tensor.data, tensor.tensor_type), tensor.tensor_type.name) for tensor in tensors]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_written_and_close(tmp_path, write_model, kind):
    source, target = write_model(tmp_path / "a.gguf"), tmp_path / "b.gguf"
    quantize(source, target, kind.lower(), threads=1)
    ((before, _),), ((after, _),) = weights(source), weights(target)
    error = np.abs(after - before).mean() / np.abs(before).mean()
    assert error <= {"F32": 0, "F16": 1e-3, "BF16": 5e-3, "Q8_0": 0.01}.get(kind, 0.3)
    assert target.stat().st_size <= source.stat().st_size + 100
    assert sorted(os.listdir(tmp_path)) == ["a.gguf", "b.gguf"]


def test_a_file_can_be_quantized_in_its_place(tmp_path, write_model):
    path = write_model(tmp_path / "a.gguf")
    quantize(path, path, "Q8_0", threads=1)
    assert weights(path)[0][1] == "Q8_0"
    with pytest.raises(InputError, match="start from a file in F32 or F16"):
        quantize(path, tmp_path / "b.gguf", "Q4_0", threads=1)
    assert os.listdir(tmp_path) == ["a.gguf"]


@pytest.mark.parametrize(
    ("width", "kind", "match"),
    [
        (96, "Q4_K_M", "multiple of 256 weights, token_embd.weight has 96: take Q8_0"),
        (40, "Q8_0", "multiple of 32 weights, token_embd.weight has 40: take F16"),
        (256, "Q9", "--quantize Q9: there are F32, F16"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(tmp_path, write_model, width, kind, match):
    with pytest.raises(InputError, match=match):
        quantize(write_model(tmp_path / "a.gguf", width), tmp_path / "b.gguf", kind)
    assert os.listdir(tmp_path) == ["a.gguf"]


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path, write_model):
    source = write_model(tmp_path / "a.gguf")
    with pytest.raises(InputError, match="name another file"):
        quantize(source, tmp_path / "nowhere" / "b.gguf", "Q8_0")
