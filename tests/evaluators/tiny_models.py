"""Checkpoints of two layers and sixteen numbers a token, and texts and images that they can learn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    MobileViTConfig,
    MobileViTForSemanticSegmentation,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SwinConfig,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

ANIMALS = ("cat", "dog", "cow", "hen", "pig")
PLANTS = ("oak", "elm", "fig", "rye", "yew")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[END]")
WORDS = (*SPECIAL, *ANIMALS, *PLANTS, "the", "a", "is", "here")


def write_tokenizer(folder: Path, **special: str) -> None:
    """A word a token. `special`: its special tokens; left out, one for padding and one for the end, too."""
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    make: Any = PreTrainedTokenizerFast
    usual = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[END]"}
    make(tokenizer_object=tokenizer, **(special or usual)).save_pretrained(folder)


def write_encoder(folder: Path, layers: int = 2) -> Path:
    """A BERT without a classification head."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.2,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_roberta(folder: Path, positions: int) -> Path:
    """A RoBERTa: its first token has the position 1, behind the number of the padding token."""
    make: Any = RobertaConfig
    config = make(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=positions, pad_token_id=0,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_decoder(folder: Path, width: int = 16, layers: int = 2, positions: int = 64) -> Path:
    """A Llama."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=width, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=2 * width, max_position_embeddings=positions, tie_word_embeddings=True, pad_token_id=0,
        bos_token_id=None, eos_token_id=5, initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_another_decoder(folder: Path, kind: str, **settings: Any) -> Path:
    """A causal language model of a kind that is no Llama."""
    torch.manual_seed(0)
    heads, sizes = {"num_attention_heads": 2}, {"hidden_size": 16, "num_hidden_layers": 2}
    shapes: dict[str, dict[str, Any]] = {
        "opt": {**sizes, **heads, "ffn_dim": 32, "word_embed_proj_dim": 16, "max_position_embeddings": 64},
        "bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2},
        "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
        "mamba": {**sizes, "state_size": 4},
    }
    special = {"vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 5}
    config = AutoConfig.for_model(kind, **{**shapes[kind], **special, "initializer_range": 0.2, **settings})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_segmenter(folder: Path, classes: int = 2) -> Path:
    """A SegFormer of two stages."""
    torch.manual_seed(0)
    make: Any = SegformerConfig
    config = make(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[3, 3],
        strides=[2, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=16, num_labels=classes,
    )  # fmt: skip
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    return folder


def write_upernet(folder: Path) -> Path:
    """A Swin of three stages, which pools a whole image into one pixel and normalises that over the batch."""
    backbone: Any = SwinConfig
    stages = {"depths": [1, 1, 1], "num_heads": [1, 1, 1], "out_features": ["stage1", "stage2", "stage3"]}
    body = backbone(image_size=32, embed_dim=8, window_size=2, **stages)
    head: Any = UperNetConfig
    shape = {"hidden_size": 8, "pool_scales": [1], "auxiliary_in_channels": 32, "auxiliary_channels": 8}
    config = head(backbone_config=body, **shape)
    UperNetForSemanticSegmentation(config).save_pretrained(folder)
    return folder


def write_mobilevit(folder: Path) -> Path:
    """A MobileViT, which pools as UperNet does."""
    make: Any = MobileViTConfig
    config = make(
        image_size=32, hidden_sizes=[8, 8, 8], neck_hidden_sizes=[4, 4, 4, 8, 8, 8, 8], num_attention_heads=2,
        aspp_out_channels=8, atrous_rates=[1, 2, 3],
    )  # fmt: skip
    MobileViTForSemanticSegmentation(config).save_pretrained(folder)
    return folder


def write_lines(file: Path, rows: Sequence[dict[str, Any]]) -> str:
    """JSON Lines; the file's name."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file.name


def write_texts(folder: Path) -> dict[str, str]:
    """Texts of animals and plants: the options ``train`` and ``val``."""
    random = np.random.default_rng(0)
    kinds = {"animal": ANIMALS, "plant": PLANTS}
    rows = [
        {"text": " ".join(["the", *random.choice(kinds[label], size=3), "is here"]), "label": label}
        for label in ("animal", "plant") * 32
    ]
    return {
        "train": write_lines(folder / "train.jsonl", rows[:48]),
        "val": write_lines(folder / "val.jsonl", rows[48:]),
    }


def write_prompts(folder: Path) -> dict[str, str]:
    """The same word is to come again: the options ``train`` and ``val``."""
    rows = [{"prompt": f"the {word}", "completion": f"{word} {word} {word}"} for word in (*ANIMALS, *PLANTS)]
    return {"train": write_lines(folder / "train.jsonl", rows * 4), "val": write_lines(folder / "val.jsonl", rows)}


def write_scenes(folder: Path, size: int = 16, parts: dict[str, int] | None = None) -> str:
    """Bright squares on dark noise: the option ``data``."""
    random = np.random.default_rng(0)
    for part, count in (parts or {"train": 24, "val": 8}).items():
        for name in ("images", "masks"):
            (folder / "scenes" / part / name).mkdir(parents=True)
        for number in range(count):
            mask = np.zeros((size, size), np.uint8)
            top, left = random.integers(0, size // 2, 2)
            mask[top : top + size // 2, left : left + size // 2] = 1
            image = random.integers(0, 90, (size, size, 3)) + 150 * mask[..., None]
            Image.fromarray(image.astype(np.uint8)).save(folder / "scenes" / part / "images" / f"{number}.png")
            Image.fromarray(mask).save(folder / "scenes" / part / "masks" / f"{number}.png")
    return "scenes"
