"""Byte-level BPE tokenizers between Hugging Face and GGUF, both ways.

A GGUF does not hold how a text is cut before the merges are applied; it names the way, and llama.cpp knows it by that
name. So a tokenizer can be carried over only where its cutting is one of those known here by both names; with another
one the same text would become other tokens in llama.cpp than in training, without a word.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ncode_search.agent.errors import InputError

if TYPE_CHECKING:
    import gguf
    from transformers import PreTrainedTokenizerBase

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS = {"llama-bpe": rf"{_WORDS}\p{{N}}{{1,3}}{_REST}", "qwen2": rf"{_WORDS}\p{{N}}{_REST}"}
"""Ways of cutting that are one regular expression, by their names in llama.cpp."""
_WHOLE_WORDS = ("llama-bpe",)
"""Ways in which a piece that is a token itself is not merged from its parts."""
_NAMES = {"gpt-2": "gpt-2", "smollm": "smollm", "llama-bpe": "llama-bpe", "llama3": "llama-bpe", "qwen2": "qwen2"}
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
_UNUSED = 5

Fields = Mapping[str, Any]
"""Keys and values of a GGUF."""


def from_fields(fields: Fields, where: str) -> PreTrainedTokenizerBase:
    """The tokenizer that a GGUF holds. Raises `InputError`, which names `where`, for other kinds than those above."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    words, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    pre = _NAMES.get(fields.get("tokenizer.ggml.pre", ""))
    if fields.get("tokenizer.ggml.model") != "gpt2" or pre is None:
        raise InputError(
            f"{where}: its tokenizer ({fields.get('tokenizer.ggml.model')}, {fields.get('tokenizer.ggml.pre')}) "
            f"is none of byte-level BPE {', '.join(_SPLITS)}, gpt-2, smollm: give the Hugging Face checkpoint instead"
        )
    special = {role: _word(fields, words, role) for role in ("bos", "eos", "padding")}
    names = {"bos_token": special["bos"], "eos_token": special["eos"], "pad_token": special["padding"]}
    begin = special["bos"] if fields.get("tokenizer.ggml.add_bos_token", False) else None
    tokenizer = Tokenizer.from_str(json.dumps(_tokenizer_json(words, kinds, _merges(fields), pre, begin)))
    make: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerBase = make(
        tokenizer_object=tokenizer,
        chat_template=fields.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
        **{name: word for name, word in names.items() if word is not None},
    )
    return made


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> None:
    """Write `tokenizer` for a model of `vocabulary` tokens. Raises `InputError` where llama.cpp would cut otherwise."""
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    pre = cutting_of(described)
    words, kinds = _vocabulary(described, vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(words)
    writer.add_token_types(kinds)
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in described["model"]["merges"]]
    )
    _add_special(writer, tokenizer)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def adds_begin(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts its token for the beginning before a text."""
    return bool(tokenizer.bos_token_id is not None and tokenizer("0")["input_ids"][:1] == [tokenizer.bos_token_id])


def cutting_of(described: Mapping[str, Any]) -> str:
    """llama.cpp's name for how the tokenizer of a ``tokenizer.json`` cuts a text. Raises `InputError` without one."""
    model, cut = described["model"], described.get("pre_tokenizer") or {}
    steps = cut.get("pretokenizers", [cut])
    if model.get("type") == "BPE" and not model.get("byte_fallback") and steps[-1].get("type") == "ByteLevel":
        for name in (*_SPLITS, "smollm", "gpt-2"):
            if _plain(steps) == _plain(_steps(name)):
                return name
    raise InputError(
        f"the tokenizer cuts texts in none of the ways {', '.join(_SPLITS)}, smollm, gpt-2 of llama.cpp: "
        "convert the model with llama.cpp's own script"
    )


def _steps(name: str) -> list[dict[str, Any]]:
    """The pre-tokenizers of ``tokenizer.json`` for one of llama.cpp's names."""
    if name in _SPLITS:
        split = {"type": "Split", "pattern": {"Regex": _SPLITS[name]}, "behavior": "Isolated", "invert": False}
        return [split, {**_BYTE_LEVEL, "use_regex": False}]
    words = {**_BYTE_LEVEL, "use_regex": True}
    return [{"type": "Digits", "individual_digits": True}, words] if name == "smollm" else [words]


def _plain(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`steps` without what changes no token."""
    return [{key: value for key, value in step.items() if key != "trim_offsets"} for step in steps]


def _tokenizer_json(
    words: list[str], kinds: list[int], merges: list[list[str]], pre: str, begin: str | None
) -> dict[str, Any]:
    vocabulary = {word: at for at, word in enumerate(words)}
    model = {"type": "BPE", "vocab": vocabulary, "merges": merges, "ignore_merges": pre in _WHOLE_WORDS}
    return {
        "version": "1.0",
        "added_tokens": [_added(at, word, kinds[at]) for at, word in enumerate(words) if kinds[at] in (3, 4)],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _steps(pre)},
        "post_processor": _beginning(begin, vocabulary) if begin else None,
        "decoder": {**_BYTE_LEVEL, "add_prefix_space": True, "use_regex": True},
        "model": model,
    }


def _added(at: int, word: str, kind: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": at, "content": word, "special": kind == 3, **flags}


def _beginning(word: str, vocabulary: Mapping[str, int]) -> dict[str, Any]:
    begin = {"SpecialToken": {"id": word, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [begin, first],
        "pair": [begin, first, begin, second],
        "special_tokens": {word: {"id": word, "ids": [vocabulary[word]], "tokens": [word]}},
    }


def _merges(fields: Fields) -> list[list[str]]:
    return [merge.split(" ", 1) for merge in fields["tokenizer.ggml.merges"]]


def _word(fields: Fields, words: list[str], role: str) -> str | None:
    at = fields.get(f"tokenizer.ggml.{role}_token_id")
    return words[at] if at is not None else None


def _vocabulary(described: Mapping[str, Any], size: int) -> tuple[list[str], list[int]]:
    """Every token's text and type; rows of the embedding without a token are unused."""
    words, kinds = [f"[unused{at}]" for at in range(size)], [_UNUSED] * size
    for word, at in described["model"]["vocab"].items():
        words[at], kinds[at] = word, 1
    for token in described["added_tokens"]:
        words[token["id"]], kinds[token["id"]] = token["content"], 3 if token["special"] else 4
    return words, kinds


def _add_special(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerBase) -> None:
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    if tokenizer.eos_token_id is not None:
        writer.add_eos_token_id(tokenizer.eos_token_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(adds_begin(tokenizer))
