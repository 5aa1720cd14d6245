"""A trained checkpoint as a GGUF: adapters merged, weights, the real tokenizer, and what it is.

The file is written in 32 bits (16 for models above four billion weights), then quantized by llama.cpp; then llama.cpp
reads the tokenizer back, and the tokens that it makes of a prompt must be those of the training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ncode_search.agent.errors import InputError, NcodeError
from ncode_search.agent.ranking.llama_library import llama
from ncode_search.agent.ranking.prompt import history_text, pool_text
from ncode_search.agent.tuning.gguf_llama import add_dimensions, gguf_tensors
from ncode_search.agent.tuning.gguf_tokenizer import add_tokenizer
from ncode_search.agent.tuning.hf_model import Base, load_base
from ncode_search.agent.tuning.quantize import quantize, require_kind
from ncode_search.agent.whole_files import replacing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROTOCOL, VERSION = "published", 1
"""Values of the metadata keys ``ncode.protocol`` and ``ncode.version``."""
NOTES = "ncode.json"
_LARGE = 4_000_000_000
"""Weights above which the file to be quantized is in 16 bits."""


def export(checkpoint: str, out: Path, kind: str = "F16") -> None:
    """Write `checkpoint`, a folder of the training or anything that can be trained, as a GGUF of `kind`.

    Raises `InputError` for what cannot be loaded, converted or quantized.
    """
    kind = require_kind(kind)
    base, notes = load_trained(checkpoint)
    with replacing(out) as new:
        write_gguf(new, base, notes)
        if kind != "F32":
            quantize(new, new, kind)
        require_same_tokens(new, base.tokenizer)


def load_trained(checkpoint: str) -> tuple[Base, dict[str, Any]]:
    """The model with its adapters merged, and the notes of its training; of an untrained model its name only."""
    folder = Path(checkpoint)
    notes = _notes(folder)
    if not (folder / "adapter_config.json").exists():
        return load_base(checkpoint), notes
    if "base" not in notes:
        raise InputError(
            f"{folder} holds adapters but no {NOTES}, which names their base: train them with ncode ranker"
        )
    base = load_base(notes["base"])
    return Base(_merged(base.model, folder), base.tokenizer, checkpoint), notes


def write_gguf(path: Path, base: Base, notes: Mapping[str, Any]) -> None:
    """Write the model, unquantized."""
    import gguf

    config = base.model.config
    small = base.model.num_parameters() < _LARGE
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("model")
    writer.add_name(f"ncode ranker of {Path(str(notes.get('base', base.name))).name}")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32 if small else gguf.LlamaFileType.MOSTLY_F16)
    add_dimensions(writer, config)
    add_tokenizer(writer, base.tokenizer, config.vocab_size)
    writer.add_string("ncode.protocol", PROTOCOL)
    writer.add_uint32("ncode.version", VERSION)
    writer.add_string("ncode.about", json.dumps(dict(notes), sort_keys=True))
    for name, values in gguf_tensors(config, base.model.state_dict()):
        writer.add_tensor(name, values if small or values.ndim == 1 else values.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def require_same_tokens(path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `NcodeError` unless llama.cpp cuts a prompt as `tokenizer` does."""
    codes = ["01234567", "9876zyAB", "00112233", "0", "31415926"]
    prompt = history_text(codes, np.array([93.1, 92.77, 90.01, 17.5, 0.001])) + pool_text(codes)
    text = f"{tokenizer.bos_token or ''}{prompt}{tokenizer.eos_token or ''}\nTask: it's 2 words, Größe 3.5\n\n{prompt}"
    wanted = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if (found := _llama_tokens(path, text)) != wanted:
        at = next((at for at, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]), len(wanted))
        raise NcodeError(f"llama.cpp cuts a prompt otherwise than the checkpoint's tokenizer does, from token {at} on")


def _merged(model: Any, folder: Path) -> Any:
    import warnings

    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()


def _notes(folder: Path) -> dict[str, Any]:
    try:
        notes = json.loads((folder / NOTES).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {"base": str(folder)} if not (folder / "adapter_config.json").exists() else {}
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / NOTES} cannot be read ({error}): train again") from error
    return notes if isinstance(notes, dict) else {}


def _llama_tokens(path: Path, text: str) -> list[int]:
    """What llama.cpp makes of `text`, with the vocabulary only."""
    api = llama()
    params = api.llama_model_default_params()
    params.vocab_only = True
    model = api.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        raise NcodeError(f"llama.cpp cannot read the vocabulary of {path}")
    try:
        data = text.encode()
        tokens = (api.llama_token * (len(data) + 8))()
        vocabulary = api.llama_model_get_vocab(model)
        count = api.llama_tokenize(vocabulary, data, len(data), tokens, len(tokens), False, True)
        return list(tokens[: max(count, 0)])
    finally:
        api.llama_model_free(model)
