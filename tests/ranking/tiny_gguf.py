"""A tiny Llama with random weights and a real byte-level tokenizer, as a GGUF file and again in PyTorch.

The PyTorch side shares nothing with llama.cpp but the weights: it is what the ranker's numbers are checked against.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from numpy.typing import NDArray

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("0 1", "1 2", "3 0", "01 2", "2 2", "; 0")
"""Codes of the same length get different numbers of tokens from these."""

Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Shape:
    """Dimensions; rows are multiples of 32 so that the model can be quantized."""

    width: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    hidden: int = 96
    context: int = 1024
    rope_base: float = 10000.0
    epsilon: float = 1e-5

    @property
    def head(self) -> int:
        return self.width // self.heads


def byte_symbols() -> list[str]:
    """GPT-2's printable character for each of the 256 bytes, in the tokenizer's order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + at) for at in range(len(rest))]


def tokens() -> list[str]:
    """The vocabulary: special tokens, bytes, merges; padded to a multiple of 32."""
    words = [*SPECIAL, *byte_symbols(), *(merge.replace(" ", "") for merge in MERGES)]
    return words + [f"<unused{at}>" for at in range(-len(words) % 32)]


def make_weights(shape: Shape, seed: int = 0) -> Weights:
    """Random weights by GGUF name, in llama.cpp's layout ``(out, in)``."""
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        return rng.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)

    def gains() -> NDArray[np.float32]:
        return rng.uniform(0.5, 1.5, shape.width).astype(np.float32)

    vocabulary = len(tokens())
    weights = {"token_embd": matrix(vocabulary, shape.width), "output_norm": gains()}
    weights["output"] = 4 * matrix(vocabulary, shape.width)
    sizes = {"attn_q": shape.width, "attn_k": shape.kv_heads * shape.head, "attn_v": shape.kv_heads * shape.head}
    for layer in range(shape.layers):
        for name, rows in sizes.items():
            weights[f"blk.{layer}.{name}"] = 2 * matrix(rows, shape.width)
        weights[f"blk.{layer}.attn_output"] = matrix(shape.width, shape.width)
        weights[f"blk.{layer}.ffn_gate"] = matrix(shape.hidden, shape.width)
        weights[f"blk.{layer}.ffn_up"] = matrix(shape.hidden, shape.width)
        weights[f"blk.{layer}.ffn_down"] = matrix(shape.width, shape.hidden)
        weights[f"blk.{layer}.attn_norm"], weights[f"blk.{layer}.ffn_norm"] = gains(), gains()
    return weights


def write_tiny_gguf(
    path: Path,
    *,
    seed: int = 0,
    shape: Shape | None = None,
    template: str | None = CHAT_TEMPLATE,
    tokenizer: bool = True,
    add_bos: bool = False,
    weights: Weights | None = None,
    layers_claimed: int | None = None,
) -> Path:
    """Write the model to `path`; `layers_claimed` is what the header says in place of the truth."""
    shape = shape or Shape()
    writer = gguf.GGUFWriter(path, "llama")
    _add_dimensions(writer, shape)
    writer.add_block_count(layers_claimed or shape.layers)
    if tokenizer:
        _add_tokenizer(writer, add_bos)
    else:
        writer.add_tokenizer_model("no_vocab")
    if template is not None:
        writer.add_chat_template(template)
    for name, tensor in (weights or make_weights(shape, seed)).items():
        writer.add_tensor(f"{name}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def quantize(source: Path, target: Path, file_type: int = int(gguf.LlamaFileType.MOSTLY_Q8_0)) -> Path:
    """Write `source` again with quantized weights."""
    from ncode_search.agent.ranking.llama_library import llama

    params = llama().llama_model_quantize_default_params()
    params.ftype, params.nthread = file_type, 1
    status = llama().llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    assert status == 0
    return target


class TorchLlama:
    """The forward pass, written down from the architecture: float64, no cache, one sequence."""

    def __init__(self, weights: Weights, shape: Shape | None = None) -> None:
        self.shape = shape or Shape()
        self.weights = {name: torch.from_numpy(tensor).double() for name, tensor in weights.items()}

    def log_likelihood(self, prompt: list[int], branch: list[int]) -> float:
        """Log-probability of `branch` after `prompt`."""
        scores = torch.log_softmax(self.logits([*prompt, *branch]), dim=1)
        return sum(float(scores[len(prompt) - 1 + at, token]) for at, token in enumerate(branch))

    def logits(self, sequence: list[int]) -> torch.Tensor:
        """Logits behind every token, shape ``(len(sequence), vocabulary)``."""
        x = self.weights["token_embd"][sequence]
        for layer in range(self.shape.layers):
            x = x + self._attention(self._norm(x, f"blk.{layer}.attn_norm"), layer)
            x = x + self._feed_forward(self._norm(x, f"blk.{layer}.ffn_norm"), layer)
        return self._norm(x, "output_norm") @ self.weights["output"].T

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return x / (x.square().mean(dim=1, keepdim=True) + self.shape.epsilon).sqrt() * self.weights[name]

    def _feed_forward(self, x: torch.Tensor, layer: int) -> torch.Tensor:
        gate, up, down = (self.weights[f"blk.{layer}.ffn_{name}"] for name in ("gate", "up", "down"))
        return (torch.nn.functional.silu(x @ gate.T) * (x @ up.T)) @ down.T

    def _attention(self, x: torch.Tensor, layer: int) -> torch.Tensor:
        q, k, v = (self._heads(x @ self.weights[f"blk.{layer}.attn_{name}"].T) for name in "qkv")
        q, k = self._rotate(q), self._rotate(k)
        k, v = (t.repeat_interleave(self.shape.heads // self.shape.kv_heads, dim=0) for t in (k, v))
        future = torch.full((len(x), len(x)), float("-inf"), dtype=x.dtype).triu(1)
        weights = torch.softmax(q @ k.transpose(1, 2) / self.shape.head**0.5 + future, dim=2)
        mixed = (weights @ v).transpose(0, 1).reshape(len(x), self.shape.width)
        return mixed @ self.weights[f"blk.{layer}.attn_output"].T

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(len(x), -1, self.shape.head).transpose(0, 1)

    def _rotate(self, x: torch.Tensor) -> torch.Tensor:
        """Rotary positions on neighbouring pairs, as llama.cpp has them for this architecture."""
        pairs = torch.arange(0, self.shape.head, 2, dtype=x.dtype)
        angles = torch.arange(x.shape[1], dtype=x.dtype)[:, None] * self.shape.rope_base ** (-pairs / self.shape.head)
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = (even * angles.cos() - odd * angles.sin(), even * angles.sin() + odd * angles.cos())
        return torch.stack(turned, dim=-1).flatten(-2)


def _add_dimensions(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name("tiny")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_rope_dimension_count(shape.head)
    writer.add_vocab_size(len(tokens()))
    writer.add_file_type(int(gguf.LlamaFileType.ALL_F32))


def _add_tokenizer(writer: gguf.GGUFWriter, add_bos: bool) -> None:
    words = tokens()
    kinds = [gguf.TokenType.NORMAL] * len(words)
    kinds[: len(SPECIAL)] = [gguf.TokenType.CONTROL] * len(SPECIAL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types(kinds)
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(add_bos)
