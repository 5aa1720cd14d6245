"""The embedded ranker as a GGUF: the network as a ``llama`` model, the layer before it and what it is as metadata.

llama.cpp loads exactly the tensors that its architecture has, so the linear layer that turns marks and facts into
vectors goes into the metadata, as arrays. There is no tokenizer: vectors go in, bins come out. The
network has no positions, so the rotary embedding is scaled away, and query and key weights need no reordering for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.embedded_file import PROTOCOL, VERSION
from ncode_search.agent.ranking.tokens import FACTS, MARKS
from ncode_search.agent.tuning.network import BINS, OUTPUTS, REACH, RankerNetwork, Shape
from ncode_search.agent.tuning.quantize import quantize, require_kind
from ncode_search.agent.tuning.scratch import CHECKPOINT, read_checkpoint
from ncode_search.agent.whole_files import replacing

CONTEXT = 1024
"""Trials and candidates that the model says it can take at once."""


def load_checkpoint(path: Path) -> tuple[RankerNetwork, dict[str, Any]]:
    """The network of a checkpoint of `scratch.train`, and what it says of its making.

    Raises `InputError` where it is none.
    """
    state = read_checkpoint(path)
    try:
        network = RankerNetwork(Shape(**state["shape"]))
        network.load_state_dict(state["network"])
    except (RuntimeError, TypeError) as error:
        raise InputError(f"{path} is no checkpoint of an embedded ranker ({error}): give its checkpoint.pt") from error
    return network.eval(), dict(state["about"])


def is_checkpoint(path: str) -> bool:
    """Whether `scratch.train` wrote the folder, or the file in it that is named itself, such as ``best.pt``."""
    return _file_of(path).is_file()


def export(checkpoint: str, out: Path, kind: str = "Q8_0") -> None:
    """Write a checkpoint, a folder or a file in one, as a GGUF of `kind`, whole or not at all.

    Raises `InputError` for what cannot be loaded or quantized.
    """
    kind = require_kind(kind)
    network, about = load_checkpoint(_file_of(checkpoint))
    with replacing(out) as new:
        write_gguf(network, new, about)
        if kind != "F32":
            quantize(new, new, kind)


def _file_of(checkpoint: str) -> Path:
    path = Path(checkpoint)
    return path if path.suffix == ".pt" else path / CHECKPOINT


def write_gguf(network: RankerNetwork, path: Path, about: Mapping[str, Any]) -> None:
    """Write the network in 32 bits. `about`: what is known of its making, kept as JSON."""
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer, network.shape, about)
    _add_entrance(writer, network)
    for name, tensor in _tensors(network).items():
        writer.add_tensor(name, _numpy(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter, shape: Shape, about: Mapping[str, Any]) -> None:
    writer.add_name("ncode-search embedded ranker")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    # Positions stretched until every rotation is by nothing: the network knows no positions.
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(1e9)
    writer.add_vocab_size(OUTPUTS)
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_string("ncode.protocol", PROTOCOL)
    writer.add_uint32("ncode.version", VERSION)
    writer.add_uint32("ncode.bins", BINS)
    writer.add_float32("ncode.reach", REACH)
    writer.add_uint32("ncode.marks", MARKS)
    writer.add_uint32("ncode.facts", FACTS)
    writer.add_string("ncode.about", json.dumps(about, sort_keys=True))


def _add_entrance(writer: gguf.GGUFWriter, network: RankerNetwork) -> None:
    writer.add_array("ncode.enter.weight", _numpy(network.enter.weight).ravel().tolist())
    writer.add_array("ncode.enter.bias", _numpy(network.enter.bias).tolist())


def _tensors(network: RankerNetwork) -> dict[str, Tensor]:
    """Tensors by llama.cpp's names."""
    tensors = {
        "token_embd.weight": torch.zeros(OUTPUTS, network.shape.width),
        "output_norm.weight": network.norm.weight,
        "output.weight": network.head.weight,
    }
    parts = {
        "attn_norm": "attention_norm", "attn_q": "attention.q", "attn_k": "attention.k", "attn_v": "attention.v",
        "attn_output": "attention.o", "ffn_norm": "feed_norm", "ffn_gate": "gate", "ffn_up": "up", "ffn_down": "down",
    }  # fmt: skip
    for number, block in enumerate(network.blocks):
        tensors |= {f"blk.{number}.{name}.weight": block.get_parameter(f"{own}.weight") for name, own in parts.items()}
    return tensors


def _numpy(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return tensor.detach().cpu().float().contiguous().numpy()
