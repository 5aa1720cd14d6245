"""A tiny Llama with random weights and a byte-level tokenizer, as a Hugging Face checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = [("0", "1"), ("1", "2"), ("2", "2"), ("01", "2"), (";", "0")]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def make_tokenizer(cut="smollm", begin=False, template=CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    """A vocabulary of the bytes and a few merges, cut like that of one of the well-known models."""
    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(merge) for merge in MERGES)]
    tokenizer = Tokenizer(
        models.BPE({word: at for at, word in enumerate(words)}, MERGES, ignore_merges=cut == "llama-bpe")
    )
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut != "llama-bpe")
    before = {
        "smollm": [pre_tokenizers.Digits(individual_digits=True)],
        "llama-bpe": [pre_tokenizers.Split(Regex(LLAMA3), "isolated")],
        "gpt-2": [],
    }
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*before[cut], byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    if begin:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A", pair="<|endoftext|> $A $B", special_tokens=[("<|endoftext|>", 0)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        chat_template=template,
    )


def make_model(*, tied=True, width=64, seed=0, **options) -> LlamaForCausalLM:
    """Two layers; louder than a fresh model, so that differences show."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=288,
        hidden_size=width,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=2,
        initializer_range=0.2,
        **options,
    )
    return LlamaForCausalLM(config).eval()


def save_checkpoint(folder: Path, *, cut="smollm", begin=False, template=CHAT_TEMPLATE, **options) -> Path:
    """Write model and tokenizer to `folder`."""
    make_model(**options).save_pretrained(folder)
    make_tokenizer(cut, begin, template).save_pretrained(folder)
    return folder
