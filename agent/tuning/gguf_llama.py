"""Llama models between Hugging Face and GGUF, both ways: dimensions, names and the order of rows.

llama.cpp turns neighbouring pairs of a head's numbers, Hugging Face turns the first half with the second: the rows of
the query and key projections are permuted on the way. Scaled rotary frequencies (Llama 3.1 and later) are a tensor of
divisors in a GGUF and four parameters in a configuration.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.errors import InputError

if TYPE_CHECKING:
    import gguf
    import torch
    from transformers import LlamaForCausalLM

Array = NDArray[np.float32]
Config = Any
"""A `LlamaConfig`; its fields differ between versions of transformers."""

_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_DIVISORS = "rope_freqs.weight"


def add_dimensions(writer: gguf.GGUFWriter, config: Config) -> None:
    """Write what llama.cpp must know of the model's shape."""
    head = head_size(config)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(_rope(config)["rope_theta"])
    writer.add_rope_dimension_count(head)
    writer.add_vocab_size(config.vocab_size)


def gguf_tensors(config: Config, weights: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, Array]]:
    """Names and values of all tensors of the GGUF."""
    import gguf

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    divisors = rope_divisors(config)
    if divisors is not None:
        yield _DIVISORS, divisors
    for name, tensor in weights.items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        target = names.get_name(name, (".weight", ".bias"))
        if target is None:
            raise InputError(f"the model has a tensor {name}, which no Llama has: it cannot become a GGUF here")
        yield target, _permuted(name, tensor.float().cpu().numpy(), config)


def load_llama(reader: gguf.GGUFReader, fields: Mapping[str, Any], path: Path) -> LlamaForCausalLM:
    """The model in a GGUF, dequantized, as 32-bit floats. Raises `InputError` for other architectures."""
    import torch
    from transformers import LlamaForCausalLM

    if fields.get("general.architecture") != "llama":
        raise InputError(f"{path} holds a {fields.get('general.architecture')} model: only Llamas can be trained here")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    config = _config(fields, tensors, path)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    weights = {name: _hf_tensor(name, tensors, config, path) for name in _wanted(model, config)}
    model.load_state_dict(
        {name: torch.from_numpy(values) for name, values in weights.items()}, strict=False, assign=True
    )
    model.tie_weights()
    # What is in no state dict was made without values.
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model


def rope_divisors(config: Config) -> Array | None:
    """What llama.cpp divides the rotary frequencies by; None for those that are not scaled."""
    rope = _rope(config)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise InputError(
            f"rotary positions of the kind {kind!r} cannot become a GGUF here: only 'default' and 'llama3'"
        )
    return _llama3_divisors(rope, head_size(config))


def head_size(config: Config) -> int:
    """Numbers a head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _llama3_divisors(rope: Mapping[str, Any], head: int) -> Array:
    """Long waves are slowed down by the factor, short ones are left as they are, those between are interpolated."""
    waves = 2 * math.pi * rope["rope_theta"] ** (np.arange(0, head, 2, dtype=np.float64) / head)
    factor, low, high = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    turns = rope["original_max_position_embeddings"] / waves
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return np.asarray(1 / ((1 - smooth) / factor + smooth), dtype=np.float32)


def _rope(config: Config) -> dict[str, Any]:
    """Rotary parameters; transformers 4 keeps them in two places."""
    found = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return {"rope_theta": getattr(config, "rope_theta", 10000.0), **found}


def _permuted(name: str, values: Array, config: Config, back: bool = False) -> Array:
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for projection, count in heads.items():
        if f".{projection}." in name:
            halves = (count, head_size(config) // 2, 2) if back else (count, 2, head_size(config) // 2)
            return np.ascontiguousarray(values.reshape(*halves, *values.shape[1:]).swapaxes(1, 2)).reshape(values.shape)
    return values


def _config(fields: Mapping[str, Any], tensors: Mapping[str, Any], path: Path) -> Config:
    from transformers import LlamaConfig

    def number(key: str, default: Any = None) -> Any:
        value = fields.get(f"llama.{key}", default)
        if value is None:
            raise InputError(f"{path} lacks the key llama.{key}: convert it again")
        return value

    heads = number("attention.head_count")
    theta = number("rope.freq_base", 10000.0)
    make: Config = LlamaConfig
    return make(
        vocab_size=len(fields["tokenizer.ggml.tokens"]),
        hidden_size=number("embedding_length"),
        intermediate_size=number("feed_forward_length"),
        num_hidden_layers=number("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=number("attention.head_count_kv", heads),
        head_dim=number("attention.key_length", number("embedding_length") // heads),
        max_position_embeddings=number("context_length"),
        rms_norm_eps=number("attention.layer_norm_rms_epsilon"),
        tie_word_embeddings="output.weight" not in tensors,
        attention_bias="blk.0.attn_q.bias" in tensors,
        rope_theta=theta,
        rope_scaling=_scaling(tensors, theta, path),
        bos_token_id=fields.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=fields.get("tokenizer.ggml.eos_token_id"),
        pad_token_id=fields.get("tokenizer.ggml.padding_token_id"),
    )


def _scaling(tensors: Mapping[str, Any], theta: float, path: Path) -> dict[str, Any] | None:
    """The parameters whose divisors the GGUF has; None where it has none."""
    if _DIVISORS not in tensors:
        return None
    divisors = np.array(tensors[_DIVISORS].data, dtype=np.float32)
    scaling = {"rope_type": "llama3", "factor": float(divisors.max()), **_LLAMA3}
    if not np.allclose(_llama3_divisors({"rope_theta": theta, **scaling}, 2 * len(divisors)), divisors, rtol=1e-4):
        raise InputError(f"{path} scales its rotary frequencies in an unknown way: give the Hugging Face checkpoint")
    return scaling


def _hf_tensor(name: str, tensors: Mapping[str, Any], config: Config, path: Path) -> Array:
    import gguf

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    tensor = tensors.get(names.get_name(name, (".weight", ".bias")) or "")
    if tensor is None:
        raise InputError(f"{path} lacks the tensor for {name}: convert it again")
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    return _permuted(name, np.array(values, dtype=np.float32), config, back=True)


def _wanted(model: LlamaForCausalLM, config: Config) -> list[str]:
    return [name for name in model.state_dict() if name != "lm_head.weight" or not config.tie_word_embeddings]
