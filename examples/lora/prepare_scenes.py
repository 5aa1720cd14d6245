"""Scenes and a model for segment.toml: real handwritten digits on textures, in two domains.

    pip install 'ncode-search[lora,cnn]'
    python prepare_scenes.py

Pre-trains a small SegFormer on light digits over smooth grey, and writes it as ``data/segformer/``; writes light and
dark digits over coloured stripes as ``data/scenes/`` beside this file, few of them for training. The digits are
scikit-learn's; those of a part are in no other. Classes: 0 background, 1 to 3 the digits 0 to 2.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from transformers import SegformerConfig, SegformerForSemanticSegmentation

DATA = Path(__file__).parent / "data"
SIZE = 64
KINDS = 3
SCENES = {"train": 96, "val": 48, "test": 48}
STEPS, BATCH, RATE = 800, 16, 4e-3
MEAN, STD = 0.5, 0.25

Scene = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""An image, shape ``(SIZE, SIZE, 3)``, and its mask, shape ``(SIZE, SIZE)``."""


def main() -> None:
    """Write everything."""
    digits, labels = load_digits(n_class=KINDS, return_X_y=True)
    pools = np.array_split(np.random.default_rng(0).permutation(len(digits)), [240, 340, 440])
    inks = digits.reshape(-1, 8, 8) / 16
    for (part, count), pool in zip(SCENES.items(), pools[1:], strict=True):
        random = np.random.default_rng(len(part))
        write(part, [scene(inks[pool], labels[pool], random, striped=True) for _ in range(count)])
    pretrain(inks[pools[0]], labels[pools[0]])


def scene(inks: NDArray[Any], labels: NDArray[Any], random: np.random.Generator, striped: bool) -> Scene:
    """One to four digits, each in a quarter of its own."""
    image = stripes(random) if striped else clouds(random)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for quarter in random.permutation(4)[: random.integers(1, 5)]:
        chosen = random.integers(len(inks))
        side = int(random.integers(20, 31))
        top, left = SIZE // 2 * np.array(divmod(quarter, 2)) + random.integers(0, SIZE // 2 - side + 1, 2)
        area = np.s_[top : top + side, left : left + side]
        ink = enlarged(inks[chosen], side)[..., None]
        colour = random.uniform(0, 0.2, 3) if striped and random.random() < 0.5 else random.uniform(0.8, 1, 3)
        image[area] = image[area] * (1 - ink) + colour * ink
        mask[area][ink[..., 0] > 0.4] = labels[chosen] + 1
    noisy = image + random.normal(0, 0.03, image.shape)
    return (noisy.clip(0, 1) * 255).astype(np.uint8), mask


def clouds(random: np.random.Generator) -> NDArray[Any]:
    """Smooth grey from dark to middle."""
    grey = enlarged(random.uniform(0, 0.6, (4, 4)), SIZE)
    return np.repeat(grey[..., None], 3, axis=2)


def stripes(random: np.random.Generator) -> NDArray[Any]:
    """Waves of two colours in any direction."""
    angle, period = random.uniform(0, np.pi), random.uniform(5, 12)
    across = np.add.outer(np.arange(SIZE) * np.sin(angle), np.arange(SIZE) * np.cos(angle))
    share = (1 + np.sin(2 * np.pi * across / period))[..., None] / 2
    mixed: NDArray[Any] = share * random.uniform(0.25, 0.75, 3) + (1 - share) * random.uniform(0.25, 0.75, 3)
    return mixed


def enlarged(values: NDArray[Any], side: int) -> NDArray[Any]:
    """Bilinear."""
    image = Image.fromarray(values.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float64)


def write(part: str, scenes: list[Scene]) -> None:
    """PNG files."""
    for number, (image, mask) in enumerate(scenes):
        for kind, pixels in (("images", image), ("masks", mask)):
            file = DATA / "scenes" / part / kind / f"{number:03}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)
    print(f"{DATA / 'scenes' / part}: {len(scenes)} scenes")


def pretrain(inks: NDArray[Any], labels: NDArray[Any]) -> None:
    """Train on smooth grey; write the checkpoint with the scale of its pixels."""
    torch.set_num_threads(1)  # more than one wait for each other on a machine with other work
    torch.manual_seed(0)
    make: Any = SegformerConfig
    config = make(
        num_encoder_blocks=3, depths=[2, 2, 2], sr_ratios=[4, 2, 1], hidden_sizes=[16, 32, 64], patch_sizes=[5, 3, 3],
        strides=[2, 2, 2], num_attention_heads=[1, 2, 4], mlp_ratios=[2, 2, 2], decoder_hidden_size=64,
        num_labels=KINDS + 1,
    )  # fmt: skip
    model = SegformerForSemanticSegmentation(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    random, started = np.random.default_rng(0), time.perf_counter()
    for step in range(1, STEPS + 1):
        images, masks = zip(*(scene(inks, labels, random, striped=False) for _ in range(BATCH)), strict=True)
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
        loss = model(pixel_values=(pixels - MEAN) / STD, labels=torch.from_numpy(np.stack(masks)).long()).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step} of {STEPS}: loss {loss.item():.3f}, {time.perf_counter() - started:.0f} s")
    model.save_pretrained(DATA / "segformer")
    scale = {"image_mean": [MEAN] * 3, "image_std": [STD] * 3}
    (DATA / "segformer" / "preprocessor_config.json").write_text(json.dumps(scale))


if __name__ == "__main__":
    main()
