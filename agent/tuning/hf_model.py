"""Language models to train: from a folder, from the Hugging Face hub, or out of a GGUF.

A GGUF is read here and not by transformers, which takes ten times as long, keeps the weights quantized in newer
versions, and cuts the text by GPT-2's rules whatever the file says: the model would learn other tokens than llama.cpp
gives it later.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.gguf_file import SMOLLM2, check_model, resolve_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Base:
    """A causal language model and its tokenizer."""

    model: Any
    """A `PreTrainedModel` with 32-bit weights."""
    tokenizer: PreTrainedTokenizerBase
    name: str
    """What `load_base` was given."""


def load_base(name: str) -> Base:
    """Load ``smollm2``, a ``.gguf`` file, a folder with a checkpoint, or a model of the Hugging Face hub.

    Raises `InputError` for what is none of these, or no Llama.
    """
    require_libraries()
    if name == SMOLLM2 or name.endswith(".gguf"):
        model, tokenizer = _from_gguf(resolve_model(name))
    else:
        model, tokenizer = _from_checkpoint(name)
    if model.config.model_type != "llama":
        raise InputError(f"{name} is a {model.config.model_type} model: give one of the Llama family")
    return Base(model, tokenizer, name)


def require_libraries(threads: int | None = None) -> None:
    """Make the libraries ready and quiet; `threads` of PyTorch's. Raises `InputError` where one is not installed."""
    try:
        import accelerate  # noqa: F401
        import gguf  # noqa: F401
        import peft  # noqa: F401
        import torch

        from ncode_search.evaluators.pretrained import quiet_transformers
    except ImportError as error:
        raise InputError(f"{error.name} is not installed: pip install 'ncode-search[tune]'") from None
    if threads is not None:
        torch.set_num_threads(max(threads, 1))
    quiet_transformers()


def gguf_fields(reader: Any) -> dict[str, Any]:
    """All keys of a GGUF and their values."""
    return {name: field.contents() for name, field in reader.fields.items()}


def _from_gguf(path: Path) -> tuple[Any, PreTrainedTokenizerBase]:
    import gguf

    from ncode_search.agent.tuning.gguf_llama import load_llama
    from ncode_search.agent.tuning.gguf_tokenizer import from_fields

    check_model(path)
    reader = gguf.GGUFReader(path)
    fields = gguf_fields(reader)
    return load_llama(reader, fields, path), from_fields(fields, str(path))


def _from_checkpoint(name: str) -> tuple[Any, PreTrainedTokenizerBase]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not Path(name).is_dir() and (name.count("/") != 1 or name.startswith((".", "/", "~"))):
        raise InputError(f"{name} is no folder and no name of a model such as owner/model: check its path")
    try:
        model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
        return model, AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{name} cannot be loaded ({reason}): give a .gguf file, a checkpoint's folder or its name"
        ) from None
